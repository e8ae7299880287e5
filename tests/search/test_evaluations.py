from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_worlds import MINI

from quatrain.search.evaluations import Trial, joined, pareto

points = st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)))


def itself(point: tuple[float, float]) -> tuple[float, float]:
    return point


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@given(points)
def test_the_front_holds_exactly_what_nothing_beats(found):
    expected = sorted(one for one in found if not any(beats(other, one) for other in found))

    assert list(pareto(found, itself)) == expected


@given(points)
def test_everything_outside_the_front_is_beaten_by_something_in_it(found):
    front = pareto(found, itself)

    assert all(one in front or any(beats(other, one) for other in front) for one in found)


def test_the_front_of_a_front_is_itself():
    front = pareto([(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)], itself)

    assert pareto(front, itself) == front == ((1.0, 1.0), (2.0, 3.0))


ious = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def figures(values: list[float], images: int) -> dict[str, float]:
    return {"miou_oracle": float(np.mean(values)), "objects": float(len(values)), "images": float(images)}


@given(ious, ious)
def test_joined_figures_equal_those_over_all_images(one, other):
    together = joined(figures(one, 2), figures(other, 3))

    assert together == pytest.approx(figures(one + other, 5), abs=1e-12)


def test_ranges_without_a_count_of_objects_weigh_the_same():
    assert joined({"miou": 0.2}, {"miou": 0.4}) == pytest.approx({"miou": 0.3})


@pytest.mark.parametrize(("first", "last"), [(-1, 4), (4, 4), (5, 4), (0, 0)])
def test_an_empty_range_of_images_is_refused(first, last):
    with pytest.raises(ValueError, match="last must be above first"):
        Trial(subnet=MINI.smallest(), first=first, last=last)
