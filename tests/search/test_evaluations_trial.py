from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_worlds import MINI

from quatrain.search.evaluations import Trial, joined

ious = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def figures(values: list[float], images: int) -> dict[str, float]:
    return {"miou_oracle": float(np.mean(values)), "objects": float(len(values)), "images": float(images)}


@given(ious, ious)
def test_two_stretches_make_the_figures_of_both_at_once(one, other):
    together = joined(figures(one, 2), figures(other, 3))

    assert together == pytest.approx(figures(one + other, 5), abs=1e-12)


def test_without_a_count_of_objects_stretches_weigh_the_same():
    assert joined({"miou": 0.2}, {"miou": 0.4}) == pytest.approx({"miou": 0.3})


@pytest.mark.parametrize(("first", "last"), [(-1, 4), (4, 4), (5, 4), (0, 0)])
def test_no_images_at_all_are_refused(first, last):
    with pytest.raises(ValueError, match="the last must be above the first"):
        Trial(subnet=MINI.smallest(), first=first, last=last)
