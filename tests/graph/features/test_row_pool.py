import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.features.row_pool import RowPool, scatter


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 4))
def test_rows_are_valid_until_as_many_calls_later_as_there_are_buffers(counts, buffers):
    pool, held = RowPool(2, buffers), []
    for number, count in enumerate(counts):
        rows = pool.take(count)
        held = [*held[-(buffers - 1) :], (number, rows)] if buffers > 1 else [(number, rows)]
        rows.fill_(number)
        assert rows.shape == (count, 2)
        assert all(bool((kept == at).all()) for at, kept in held)


def test_memory_is_reused_unless_there_are_0_buffers():
    again, fresh = RowPool(3, 2), RowPool(3, 0)
    first, _, third = (again.take(5) for _ in range(3))
    held = [fresh.take(5) for _ in range(3)]

    assert first.data_ptr() == third.data_ptr()
    assert len({rows.data_ptr() for rows in held}) == 3


def test_a_negative_number_of_buffers_is_refused():
    with pytest.raises(ValueError, match="buffers is -1"):
        RowPool(3, -1)


@given(st.integers(1, 5), st.permutations(range(6)), st.integers(0, 6), st.sampled_from([torch.float32, torch.float16]))
def test_scatter_equals_index_copy(dim, order, count, dtype):
    out, rows, at = torch.zeros(6, dim, dtype=dtype), torch.randn(count, dim).to(dtype), torch.tensor(order[:count])
    expected = out.index_copy(0, at.long(), rows)
    scatter(out, at.long().numpy(), rows)

    assert torch.equal(out, expected)
