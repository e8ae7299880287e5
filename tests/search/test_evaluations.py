from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quatrain.search.evaluations import pareto

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
