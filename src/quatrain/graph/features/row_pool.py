"""Memory for rows that is used again: fresh pages from the system cost as much as the copy into them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quatrain.graph.features.candidates import Ints


class RowPool:
    """Memory for (n, F) rows, n different from time to time, in turns."""

    def __init__(self, dim: int, turns: int, dtype: torch.dtype = torch.float32) -> None:
        """Keep memory for the rows of `turns` takes; with 0 turns each has new memory, valid for ever."""
        if turns < 0:
            raise ValueError(f"turns is {turns}; it must be at least 0")
        self._dim, self._dtype, self._next = dim, dtype, 0
        self._places = [torch.empty(0, dim, dtype=dtype) for _ in range(turns)]

    def take(self, count: int) -> Tensor:
        """Return room for `count` rows, not set to anything, to be written over by the take `turns` takes later."""
        if not self._places:
            return torch.empty(count, self._dim, dtype=self._dtype)
        turn, self._next = self._next, (self._next + 1) % len(self._places)
        if len(self._places[turn]) < count:
            self._places[turn] = torch.empty(count * 5 // 4, self._dim, dtype=self._dtype)
        return self._places[turn][:count]


def scatter(out: Tensor, at: Ints, rows: Tensor) -> None:
    """Write `rows` (k, F) into the rows `at` (k,) of `out` (n, F), both contiguous and of one dtype.

    What `out.index_copy_` does in two to three times the time, since numpy here copies a row as one thing.
    """
    whole = np.dtype((np.void, max(1, rows.shape[1]) * rows.element_size()))
    if len(at):
        out.numpy().view(whole)[at, 0] = rows.numpy().view(whole)[:, 0]
