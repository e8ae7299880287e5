import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.sampler import Neighbours, _merged, packed, subsets
from quatrain.graph.loader import Batch, PeekableBatches, rank_vertices

SIZES = st.lists(st.integers(5, 40), min_size=1, max_size=30)


@given(sizes=SIZES, seed=st.integers(0, 99))
def test_a_subset_has_distinct_numbers_below_its_size(sizes, seed):
    chosen = subsets(np.array(sizes), 5, np.random.default_rng(seed))

    assert all(
        len(set(row)) == 5 and min(row) >= 0 and max(row) < size for row, size in zip(chosen, sizes, strict=True)
    )


def test_every_subset_is_as_likely_as_every_other():
    chosen = subsets(np.full(60_000, 4), 2, np.random.default_rng(0))
    pairs = np.bincount(np.sort(chosen, axis=1) @ np.array([4, 1]), minlength=16)
    counts = pairs[pairs > 0]

    assert len(counts) == 6
    assert abs(counts - 10_000).max() < 400  # four standard deviations


class OnePart:
    """DGL's partition book of a graph in one part."""

    partid = 0

    def num_partitions(self):
        return 1


def star(leaves=50):
    graph = dgl.graph((torch.arange(1, leaves + 1), torch.zeros(leaves, dtype=torch.int64)), num_nodes=leaves + 1)
    graph.ndata[dgl.NID] = torch.arange(leaves + 1) + 1000
    return Neighbours(graph, OnePart())


def test_few_neighbours_are_all_drawn_and_of_many_as_many_as_asked():
    sources, counts = star(5).draw(np.array([0, 3]), 10, seed=0)
    assert (sorted(sources), counts.tolist()) == ([1001, 1002, 1003, 1004, 1005], [5, 0])

    sources, counts = star(50).draw(np.array([0]), 10, seed=0)
    assert len(set(sources)) == counts[0] == 10


def test_the_seed_alone_decides_what_is_drawn():
    first, again, other = (star().draw(np.array([0]), 10, seed)[0] for seed in (1, 1, 2))

    assert (first == again).all()
    assert set(first) != set(other)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=20))
def test_answers_of_the_parts_come_back_in_the_order_of_the_vertices(asked):
    part, count = (np.array(column) for column in zip(*asked, strict=True))
    drawn = {}
    for number in np.unique(part):
        own = np.flatnonzero(part == number)
        drawn[int(number)] = (np.repeat(own, count[own]), count[own])

    sources, counts = _merged(part, drawn)

    assert (counts == count).all()
    assert (sources == np.repeat(np.arange(len(part)), count)).all()


def test_vertices_travel_in_four_bytes_where_their_numbers_allow_it():
    assert packed(np.array([5, 2**31 - 1])).dtype == torch.int32
    assert packed(np.array([5, 2**31])).dtype == torch.int64


def test_no_vertices_travel_too():
    nobody = np.arange(3)[np.empty(0, np.int64)]  # numpy gives it strides of 0

    assert (packed(nobody).shape, packed(nobody).stride()) == ((0,), (1,))


@given(st.integers(1, 200), st.integers(1, 7))
def test_trainers_get_equal_shares_that_cover_everything(count, ranks):
    vertices = np.arange(count)
    shares = [rank_vertices(vertices, rank, ranks) for rank in range(ranks)]

    assert len({len(one) for one in shares}) == 1
    assert set(np.concatenate(shares)) == set(vertices)
    assert sum(map(len, shares)) < count + ranks


def batches(count):
    return (Batch(torch.tensor([index]), torch.tensor([index]), [], 0.0) for index in range(count))


def test_a_batch_that_was_looked_at_is_still_there_when_its_turn_comes():
    stream = PeekableBatches(batches(5))
    ahead = stream.peek_inputs()
    seen = [int(next(ahead)) for _ in range(3)]

    assert seen == [0, 1, 2]
    assert [int(batch.inputs) for batch in stream] == [0, 1, 2, 3, 4]
    assert list(ahead) == []


def test_nothing_is_kept_for_one_who_does_not_look_ahead():
    stream = PeekableBatches(batches(3))

    assert [int(batch.outputs) for batch in stream] == [0, 1, 2]
    assert not stream._peeked
