"""Which vertices may be kept, and their positions 0, 1, 2, ... by which policies and buffers know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_WORD = 64


def _popcount(words: NDArray[np.uint64]) -> NDArray[Any]:
    """Count the bits of each word, as numpy 2 does by itself."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: NDArray[np.uint64] = (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return counts


_bit_count: Callable[[NDArray[np.uint64]], NDArray[Any]] = getattr(np, "bitwise_count", _popcount)


class Candidates(Protocol):
    """The vertices that a buffer may keep."""

    size: int

    def find(self, vertices: Ints) -> Ints:
        """Return the position of every vertex, -1 for those that are none of them."""

    def vertices(self, positions: Ints) -> Ints:
        """Return the vertices at `positions`."""

    def degrees(self, positions: Ints) -> Ints:
        """Return the in-degrees at `positions`, 0 where they are not known."""

    def top_by_degree(self, count: int) -> Ints:
        """Return the `count` positions of highest in-degree, by descending degree, then by id."""


class HaloTable:
    """The halo of a part: remote vertices with an edge into it, by ascending id, and their global in-degrees.

    Look-up costs two reads of memory a vertex whatever the size: one bit a vertex of the graph tells who is in, and
    the count of bits before each 64 of them tells the position (3/16 byte a vertex id together). Ids in one part's
    range of a graph are dense, which is what makes this small.
    """

    def __init__(self, ids: Any, degrees: Any) -> None:
        """Take strictly ascending ids (H,) and in-degrees (H,), as arrays or CPU tensors; ValueError otherwise."""
        self.ids = np.ascontiguousarray(ids, dtype=np.int64)
        self._degrees = np.ascontiguousarray(degrees, dtype=np.int64)
        if self.ids.ndim != 1 or self.ids.shape != self._degrees.shape:
            raise ValueError(
                f"halo ids have the shape {self.ids.shape} and degrees {self._degrees.shape}; both are (H,)"
            )
        if len(self.ids) and (self.ids[0] < 0 or bool((np.diff(self.ids) <= 0).any())):
            raise ValueError("halo ids must be at least 0 and strictly ascending")
        self.size = len(self.ids)
        self._end = np.uint64(self.ids[-1] + 1 if self.size else 0)
        self._bits, self._before = self._index()

    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        bits = np.zeros(int(self._end) // _WORD + 1, np.uint64)  # holds the bit of `end`, which is always 0
        words = self.ids // _WORD
        starts = np.flatnonzero(np.diff(words, prepend=-1))
        flags = np.uint64(1) << (self.ids % _WORD).astype(np.uint64)
        if self.size:
            bits[words[starts]] = np.bitwise_or.reduceat(flags, starts)
        before = np.cumsum(_bit_count(bits), dtype=np.int64)
        return bits, np.concatenate([np.zeros(1, np.int64), before[:-1]]).astype(np.uint32)

    def find(self, vertices: Ints) -> Ints:
        """Return the position of every vertex in the halo, int64 (n,), -1 for vertices outside it."""
        clipped = np.minimum(vertices.view(np.uint64), self._end)  # a negative id is a huge one here
        word, bit = (clipped >> np.uint64(6)).view(np.int64), clipped & np.uint64(63)
        bits = self._bits[word]
        below = bits & ((np.uint64(1) << bit) - np.uint64(1))
        position: Ints = self._before[word] + _bit_count(below).astype(np.int64)
        position[(bits >> bit) & np.uint64(1) == 0] = -1
        return position

    def holds(self, vertices: Ints) -> NDArray[np.bool_]:
        """Tell which vertices are in the halo, (n,)."""
        clipped = np.minimum(vertices.view(np.uint64), self._end)
        bits = self._bits[(clipped >> np.uint64(6)).view(np.int64)] >> (clipped & np.uint64(63))
        inside: NDArray[np.bool_] = (bits & np.uint64(1)).astype(bool)
        return inside

    def vertices(self, positions: Ints) -> Ints:
        """Return the global ids at `positions`."""
        return self.ids[positions]

    def degrees(self, positions: Ints) -> Ints:
        """Return the global in-degrees at `positions`."""
        return self._degrees[positions]

    def top_by_degree(self, count: int) -> Ints:
        """Return the `count` positions of highest in-degree, by descending degree, then by id."""
        return np.argsort(-self._degrees, kind="stable")[:count]


class RemoteTable:
    """Every vertex of the graph; a vertex's position is its id. Costs a policy's arrays their full length."""

    def __init__(self, count: int, halo: HaloTable) -> None:
        """Take the number of vertices of the graph and the halo, which is ranked first; ValueError when too small."""
        if halo.size and count <= halo.ids[-1]:
            raise ValueError(f"the graph is said to have {count} vertices; its halo holds the id {halo.ids[-1]}")
        self.size = count
        self._halo = halo

    def find(self, vertices: Ints) -> Ints:
        """Return the ids themselves, -1 for what is no vertex of the graph."""
        return np.where((vertices >= 0) & (vertices < self.size), vertices, -1)

    def vertices(self, positions: Ints) -> Ints:
        """Return the positions themselves."""
        return positions

    def degrees(self, positions: Ints) -> Ints:
        """Return the in-degrees of the halo's vertices, 0 for the others."""
        at = self._halo.find(positions)
        degrees = np.zeros(len(positions), np.int64)
        degrees[at >= 0] = self._halo.degrees(at[at >= 0])
        return degrees

    def top_by_degree(self, count: int) -> Ints:
        """Return the halo's `count` vertices of highest in-degree; `count` is at most the halo's size."""
        return self._halo.ids[self._halo.top_by_degree(count)]
