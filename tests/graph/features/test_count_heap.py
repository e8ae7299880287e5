from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.features.count_heap import CountHeap

GROW = st.tuples(st.just("grow"), st.lists(st.integers(0, 19), max_size=10), st.integers(1, 3))
TAKE = st.tuples(st.just("take"), st.lists(st.integers(0, 8), max_size=12), st.just(0))


@given(st.lists(st.integers(0, 3), min_size=20, max_size=20), st.lists(st.one_of(GROW, TAKE), max_size=20))
def test_the_lowest_positions_are_taken_also_after_counts_have_grown(begin, moves):
    values = np.array(begin)
    heap, there = CountHeap(lambda positions: values[positions]), set(range(20))
    heap.add(np.arange(20))

    for move, first, second in moves:
        if move == "grow":
            values[first] += second
            continue
        bounds = np.array(sorted(first, reverse=True), np.int64)
        taken = heap.pop_below(bounds).tolist()
        pairs = zip(sorted(values[list(there)].tolist()), bounds.tolist(), strict=False)
        assert values[taken].tolist() == [value for value, bound in pairs if value < bound]
        assert set(taken) <= there
        assert len(set(taken)) == len(taken)
        there -= set(taken)
        assert heap.lower_bound() is None or all(heap.lower_bound() <= values[at] for at in there)


def test_positions_with_equal_counts_are_taken_in_the_order_of_their_addition():
    heap = CountHeap(lambda positions: np.zeros(len(positions), np.int64))
    heap.add(np.array([4, 2, 3]))
    heap.add(np.array([1]))

    assert heap.pop_below(np.array([1, 1])).tolist() == [4, 2]
    assert heap.pop_below(np.ones(9, np.int64)).tolist() == [3, 1]
    assert heap.lower_bound() is None
