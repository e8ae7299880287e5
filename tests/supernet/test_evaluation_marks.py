from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.supernet.evaluation import Mark, Marks

marks = st.builds(
    Mark,
    objects=st.integers(1, 32),
    oracle=st.floats(0, 32),
    chosen=st.floats(0, 32),
)
exams = st.dictionaries(st.integers(0, 200), marks, min_size=1, max_size=20).map(lambda of: Marks(of=of))


@given(exams, st.data())
def test_parts_add_up_to_the_whole_whatever_the_parts(whole, data):
    first = data.draw(st.sets(st.sampled_from(sorted(whole.of))))
    rest = whole.of.keys() - first

    again = whole.at(first) + whole.at(rest)

    assert again == whole
    assert again.scores == whole.scores
    assert (whole.at(rest) + whole.at(first)).scores == whole.scores


@given(exams)
def test_marks_survive_a_journal(whole):
    assert Marks.read(json.loads(json.dumps(whole.plain()))) == whole


def test_every_object_counts_the_same():
    one, three = Mark(objects=1, oracle=1.0, chosen=0.5), Mark(objects=3, oracle=0.6, chosen=0.3)

    scores = Marks(of={0: one, 7: three}).scores

    assert (scores.miou_oracle, scores.miou_chosen) == pytest.approx((0.4, 0.2))
    assert (scores.objects, scores.images) == (4, 2)


def test_an_image_on_both_sides_is_refused():
    part = Marks(of={3: Mark(objects=1, oracle=1.0, chosen=1.0)})

    with pytest.raises(ValueError, match="image 3 is marked on both sides"):
        part + part


def test_no_marks_have_no_mean():
    with pytest.raises(ValueError, match="no image is marked"):
        _ = Marks(of={}).scores


@pytest.mark.parametrize("record", [{"first": {}}, {"0": {"objects": 1}}, {"0": 3}, [], {"0": {"colour": "red"}}])
def test_what_is_no_record_of_marks_is_refused(record):
    with pytest.raises(ValueError, match="these are no marks of an exam"):
        Marks.read(record)
