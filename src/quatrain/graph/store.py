"""The memory of a buffer: its rows, and in which of them each candidate is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.graph.halo import Ints
from quatrain.graph.policy import NOBODY


class Store(Protocol):
    """Memory that one buffer has for itself or several buffers of a machine share."""

    slots: NDArray[np.int32]
    """The row of each position, -1 for none; the last one is that of position -1, (candidates + 1,)."""
    rows: Tensor
    """Features, float32 (rows, F)."""
    leads: bool
    """Whether this buffer decides what is kept."""
    shared: bool
    """Whether others read and write too."""

    def ready(self) -> None:
        """Say that the rows are filled, or wait until they are."""

    def reading(self) -> AbstractContextManager[None]:
        """Hold what is in the buffer as it is."""

    def writing(self) -> AbstractContextManager[None]:
        """Keep everyone else from reading and writing."""

    def tell(self, positions: Ints) -> None:
        """Tell the buffer that decides what this one accessed; called while reading."""

    def hear(self) -> Ints:
        """Return what the others have told since; called while writing."""


class PrivateStore:
    """Memory of one buffer."""

    leads, shared = True, False

    def __init__(self, size: int, rows: int, dim: int) -> None:
        """Make room for `rows` rows of `dim` numbers and the places of `size` candidates."""
        self.slots = np.full(size + 1, -1, np.int32)
        self.rows = torch.empty(rows, dim)

    def ready(self) -> None:
        """Nobody waits."""

    def reading(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()

    def writing(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()

    def tell(self, positions: Ints) -> None:
        """Nobody hears."""

    def hear(self) -> Ints:
        """Nobody tells."""
        return NOBODY
