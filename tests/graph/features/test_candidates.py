from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.features import candidates as module
from quatrain.graph.features.candidates import HaloTable, RemoteTable

IDS = st.sets(st.one_of(st.integers(0, 300), st.integers(0, 10**5)), max_size=60).map(sorted)
ASKED = st.lists(st.one_of(st.integers(-5, 310), st.integers(-(2**63), 2**63 - 1)), max_size=60)


@given(IDS, ASKED)
def test_look_up_finds_exactly_what_is_there(ids, asked):
    table = HaloTable(ids, [0] * len(ids))
    positions = {vertex: at for at, vertex in enumerate(ids)}

    assert table.find(np.array(ids + asked, np.int64)).tolist() == [positions.get(vertex, -1) for vertex in ids + asked]


@given(IDS)
def test_positions_lead_back_to_vertices(ids):
    table = HaloTable(ids, [0] * len(ids))

    assert table.vertices(table.find(np.array(ids, np.int64))).tolist() == ids


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_the_popcount_for_old_numpy_counts_bits(words):
    assert module._popcount(np.array(words, np.uint64)).tolist() == [word.bit_count() for word in words]


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 20))
def test_the_top_candidates_have_the_highest_degrees(degrees, count):
    table = HaloTable(range(len(degrees)), degrees)
    best = sorted(range(len(degrees)), key=lambda at: (-degrees[at], at))

    assert table.top_by_degree(count).tolist() == best[:count]


def test_tensors_are_taken_as_well():
    table = HaloTable(torch.tensor([3, 9]), torch.tensor([1, 2], dtype=torch.int32))

    assert table.find(np.array([9])).tolist() == [1]
    assert table.degrees(np.array([1, 0])).tolist() == [2, 1]


@pytest.mark.parametrize("ids", [[2, 1], [1, 1], [-1, 2]])
def test_ids_that_do_not_ascend_are_refused(ids):
    with pytest.raises(ValueError, match="at least 0 and strictly ascending"):
        HaloTable(ids, [0, 0])


def test_degrees_of_other_vertices_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) and degrees \(3,\)"):
        HaloTable([1, 2], [0, 0, 0])


def test_all_vertices_of_the_graph_can_be_candidates_and_the_top_ones_are_of_the_halo():
    table = RemoteTable(10, HaloTable([3, 9], [1, 2]))

    assert table.find(np.array([0, 9, 10, -1])).tolist() == [0, 9, -1, -1]
    assert table.vertices(np.array([4])).tolist() == [4]
    assert table.degrees(np.array([3, 4, 9])).tolist() == [1, 0, 2]
    assert table.top_by_degree(2).tolist() == [9, 3]


def test_a_graph_smaller_than_its_halo_is_refused():
    with pytest.raises(ValueError, match="vertex_count is 9; the halo holds the id 9"):
        RemoteTable(9, HaloTable([3, 9], [1, 2]))


@given(st.sets(st.integers(0, 300)), st.lists(st.integers(-5, 400)))
def test_the_halo_contains_exactly_the_vertices_that_it_finds(ids, asked):
    table = HaloTable(sorted(ids), [1] * len(ids))
    vertices = np.array(asked, np.int64)

    assert (table.contains(vertices) == (table.find(vertices) >= 0)).all()
