from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from throttled import ThrottledSource

from quatrain.graph.features.source import Float16Source, IndexedSource, MemorySource, to_float16

ROWS = torch.arange(12, dtype=torch.float32).reshape(4, 3)


def test_a_memory_source_returns_rows_in_the_order_of_the_ids():
    assert MemorySource(ROWS).read(torch.tensor([2, 0, 2])).tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]


def test_a_part_of_a_graph_begins_at_its_first_vertex():
    assert MemorySource(ROWS, first=10).read(torch.tensor([11])).tolist() == [[3, 4, 5]]


def test_a_vertex_outside_the_range_is_an_error():
    with pytest.raises(IndexError):
        MemorySource(ROWS, first=10).read(torch.tensor([9]))


def test_an_indexable_object_is_a_source():
    assert IndexedSource(ROWS).read(torch.tensor([1])).tolist() == [[3, 4, 5]]


def test_a_throttled_source_takes_as_long_as_the_bytes_would():
    slept = []
    source = ThrottledSource(MemorySource(ROWS), mbit_s=8, latency_s=0.5, sleep=slept.append, clock=lambda: 0.0)

    assert torch.equal(source.read(torch.tensor([0, 1])), ROWS[:2])
    source.read(torch.empty(0, dtype=torch.int64))
    assert slept == [0.5 + 2 * 3 * 4 / 1e6]
    assert "not a network" in source.LABEL


def test_requests_use_a_throttled_link_one_after_the_other():
    slept, now = [], iter([0.0, 0.0, 3.0, 3.0])
    row_s = 3 * 4 / 1e6
    source = ThrottledSource(
        MemorySource(ROWS), mbit_s=8 / 1e6, own=range(1), sleep=slept.append, clock=lambda: next(now)
    )
    first, second = source.read_async(torch.tensor([0, 1])), source.read_async(torch.tensor([1, 2]))

    assert torch.equal(first(), ROWS[:2])  # 3 s of the row's 12 s have passed
    assert torch.equal(second(), ROWS[1:3])
    assert slept == [row_s * 1e6 - 3, 3 * row_s * 1e6 - 3]


@pytest.mark.parametrize(("mbit_s", "latency_s"), [(0, 0), (-1, 0), (float("nan"), 0), (1, -1)])
def test_an_impossible_link_is_refused(mbit_s, latency_s):
    with pytest.raises(ValueError, match=r"must be (positive|at least 0)"):
        ThrottledSource(MemorySource(ROWS), mbit_s=mbit_s, latency_s=latency_s)


def test_float16_transfers_half_the_bytes_and_returns_float32():
    slept = []
    wire = ThrottledSource(MemorySource(to_float16(ROWS / 3)), mbit_s=8, sleep=slept.append, clock=lambda: 0.0)
    source = Float16Source(wire)
    rows = source.read(torch.tensor([0, 1]))

    assert rows.dtype == torch.float32
    assert slept == [2 * 3 * 2 / 1e6]
    assert source.lossy
    assert not torch.equal(rows, ROWS[:2] / 3)
    torch.testing.assert_close(rows, ROWS[:2] / 3, rtol=2**-11, atol=0)


@given(st.floats(-65504, 65504, width=32))
def test_float16_changes_a_number_by_at_most_2_to_the_minus_11(number):
    source = Float16Source(MemorySource(to_float16(torch.tensor([[number]]))))
    arrived = float(source.read(torch.tensor([0])))

    assert abs(arrived - number) <= max(2**-11 * abs(number), 2**-25)


def test_a_source_of_float32_is_refused_for_float16_transfer():
    with pytest.raises(ValueError, match=r"returned torch\.float32"):
        Float16Source(MemorySource(ROWS)).read(torch.tensor([0]))


def test_features_that_do_not_fit_float16_are_refused():
    with pytest.raises(ValueError, match="70000 does not fit float16"):
        to_float16(torch.tensor([[1.0, 7e4]]))


def test_infinite_features_remain_infinite():
    assert to_float16(torch.tensor([float("inf")])).tolist() == [float("inf")]
