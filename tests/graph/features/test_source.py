from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.features.source import Float16Source, IndexedSource, MemorySource, ThrottledSource, to_float16

ROWS = torch.arange(12, dtype=torch.float32).reshape(4, 3)


def test_a_source_in_memory_returns_rows_by_vertex_in_the_order_asked_for():
    assert MemorySource(ROWS).read(torch.tensor([2, 0, 2])).tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]


def test_a_part_of_a_graph_begins_at_its_first_vertex():
    assert MemorySource(ROWS, first=10).read(torch.tensor([11])).tolist() == [[3, 4, 5]]


def test_a_vertex_that_is_not_held_is_an_error_and_not_another_ones_row():
    with pytest.raises(IndexError):
        MemorySource(ROWS, first=10).read(torch.tensor([9]))


def test_anything_that_can_be_indexed_is_a_source():
    assert IndexedSource(ROWS).read(torch.tensor([1])).tolist() == [[3, 4, 5]]


def test_a_throttled_source_takes_as_long_as_the_bytes_would():
    slept = []
    source = ThrottledSource(MemorySource(ROWS), mbit_s=8, latency_s=0.5, sleep=slept.append, clock=lambda: 0.0)

    assert torch.equal(source.read(torch.tensor([0, 1])), ROWS[:2])
    source.read(torch.empty(0, dtype=torch.int64))
    assert slept == [0.5 + 2 * 3 * 4 / 1e6]
    assert "not a network" in source.LABEL


def test_what_was_asked_for_travels_in_between_one_behind_the_other():
    slept, now = [], iter([0.0, 0.0, 3.0, 3.0])
    row_s = 3 * 4 / 1e6
    source = ThrottledSource(
        MemorySource(ROWS), mbit_s=8 / 1e6, own=range(1), sleep=slept.append, clock=lambda: next(now)
    )
    first, second = source.ask(torch.tensor([0, 1])), source.ask(torch.tensor([1, 2]))

    assert torch.equal(first(), ROWS[:2])  # of the 12 s of its one row 3 have passed
    assert torch.equal(second(), ROWS[1:3])
    assert slept == [row_s * 1e6 - 3, 3 * row_s * 1e6 - 3]


@pytest.mark.parametrize(("mbit_s", "latency_s"), [(0, 0), (-1, 0), (float("nan"), 0), (1, -1)])
def test_a_link_that_cannot_be_is_refused(mbit_s, latency_s):
    with pytest.raises(ValueError, match=r"Mbit/s|at least 0"):
        ThrottledSource(MemorySource(ROWS), mbit_s=mbit_s, latency_s=latency_s)


def test_half_the_bytes_travel_and_float32_arrives():
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
def test_a_number_that_travels_as_float16_is_off_by_a_relative_2_to_the_minus_11_at_most(number):
    source = Float16Source(MemorySource(to_float16(torch.tensor([[number]]))))
    arrived = float(source.read(torch.tensor([0])))

    assert abs(arrived - number) <= max(2**-11 * abs(number), 2**-25)


def test_half_precision_is_the_senders_to_make():
    with pytest.raises(ValueError, match=r"sends torch\.float32"):
        Float16Source(MemorySource(ROWS)).read(torch.tensor([0]))


def test_features_that_do_not_fit_half_precision_are_refused():
    with pytest.raises(ValueError, match="70000 does not fit float16"):
        to_float16(torch.tensor([[1.0, 7e4]]))


def test_infinite_features_stay_infinite():
    assert to_float16(torch.tensor([float("inf")])).tolist() == [float("inf")]
