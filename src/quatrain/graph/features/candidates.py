"""Candidates: the vertices that may be cached, numbered 0, 1, 2, ... by their positions.

Policies and slot tables use positions instead of global vertex ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_WORD = 64


def _popcount(words: NDArray[np.uint64]) -> NDArray[Any]:
    """Return the number of set bits of each word, like `np.bitwise_count` of numpy 2."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: NDArray[np.uint64] = (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return counts


_bit_count: Callable[[NDArray[np.uint64]], NDArray[Any]] = getattr(np, "bitwise_count", _popcount)


class Candidates(Protocol):
    """The vertices that a cache may hold."""

    size: int

    def find(self, ids_n: Ints) -> Ints:
        """Return the position of each vertex, int64 (n,), -1 for one that is not a candidate."""

    def vertices(self, pos_n: Ints) -> Ints:
        """Return the global ids of positions, int64 (n,)."""

    def degrees(self, pos_n: Ints) -> Ints:
        """Return the in-degrees of positions, 0 if unknown, int64 (n,)."""

    def top_by_degree(self, count: int) -> Ints:
        """Return the `count` positions of highest in-degree, by descending degree, then by id."""


class HaloTable:
    """The halo of a part: remote vertices with an edge into it, by ascending id, with their global in-degrees.

    A lookup costs two memory reads per vertex, whatever the size of the halo. One bit per vertex of the graph says
    whether it is in the halo; the number of set bits before each word of 64 gives the position. Both take 3/16 byte
    per vertex id.
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
        bits = np.zeros(int(self._end) // _WORD + 1, np.uint64)  # includes the bit of `end`, which is always 0
        words = self.ids // _WORD
        starts = np.flatnonzero(np.diff(words, prepend=-1))
        flags = np.uint64(1) << (self.ids % _WORD).astype(np.uint64)
        if self.size:
            bits[words[starts]] = np.bitwise_or.reduceat(flags, starts)
        before = np.cumsum(_bit_count(bits), dtype=np.int64)
        return bits, np.concatenate([np.zeros(1, np.int64), before[:-1]]).astype(np.uint32)

    def find(self, ids_n: Ints) -> Ints:
        """Return the position of each vertex in the halo, int64 (n,), -1 for one outside it."""
        clipped = np.minimum(ids_n.view(np.uint64), self._end)  # negative: huge as unsigned
        word, bit = (clipped >> np.uint64(6)).view(np.int64), clipped & np.uint64(63)
        bits = self._bits[word]
        below = bits & ((np.uint64(1) << bit) - np.uint64(1))
        pos_n: Ints = self._before[word] + _bit_count(below).astype(np.int64)
        pos_n[(bits >> bit) & np.uint64(1) == 0] = -1
        return pos_n

    def contains(self, ids_n: Ints) -> NDArray[np.bool_]:
        """Return whether each vertex is in the halo, (n,)."""
        clipped = np.minimum(ids_n.view(np.uint64), self._end)
        bits = self._bits[(clipped >> np.uint64(6)).view(np.int64)] >> (clipped & np.uint64(63))
        inside: NDArray[np.bool_] = (bits & np.uint64(1)).astype(bool)
        return inside

    def vertices(self, pos_n: Ints) -> Ints:
        """Return the global ids of positions, int64 (n,)."""
        return self.ids[pos_n]

    def degrees(self, pos_n: Ints) -> Ints:
        """Return the global in-degrees of positions, int64 (n,)."""
        return self._degrees[pos_n]

    def top_by_degree(self, count: int) -> Ints:
        """Return the `count` positions of highest in-degree, by descending degree, then by id."""
        return np.argsort(-self._degrees, kind="stable")[:count]


class RemoteTable:
    """Every vertex of the graph; its position is its id. A policy's arrays then have the length of the graph."""

    def __init__(self, count: int, halo: HaloTable) -> None:
        """Take the number of vertices of the graph and the halo; ValueError when the halo has a larger id."""
        if halo.size and count <= halo.ids[-1]:
            raise ValueError(f"vertex_count is {count}; the halo holds the id {halo.ids[-1]}, which must be smaller")
        self.size = count
        self._halo = halo

    def find(self, ids_n: Ints) -> Ints:
        """Return the ids themselves, -1 for one that is not a vertex of the graph."""
        return np.where((ids_n >= 0) & (ids_n < self.size), ids_n, -1)

    def vertices(self, pos_n: Ints) -> Ints:
        """Return the positions themselves."""
        return pos_n

    def degrees(self, pos_n: Ints) -> Ints:
        """Return the in-degrees of vertices in the halo, 0 for other vertices."""
        halo_pos_n = self._halo.find(pos_n)
        degrees = np.zeros(len(pos_n), np.int64)
        degrees[halo_pos_n >= 0] = self._halo.degrees(halo_pos_n[halo_pos_n >= 0])
        return degrees

    def top_by_degree(self, count: int) -> Ints:
        """Return the halo's `count` vertices of highest in-degree; `count` is at most the halo's size."""
        return self._halo.ids[self._halo.top_by_degree(count)]
