"""Cache of remote vertex features. A read returns exactly the rows of the source, bit for bit.

The cache of a trainer holds features of remote vertices (MassiveGNN, arXiv 2410.22697). One read of a batch:

    lookup   find each vertex: in the local part, in the cache, or missing
    plan     pass hits and misses to the policy, which returns what to evict and to admit
    fetch    request the missing rows, and rows to admit that the batch does not read, from the source
    gather   copy local and cached rows to the output
    commit   copy the fetched rows to the output and to the cache

Number spaces. The end of a name says what an array of integers counts:

    ids      global vertex ids
    at       indices into the batch
    pos      positions among the candidates (`candidates`); -1: not a candidate
    slot     slots of the cache; -1: not cached; capacity + k: row k of the previous batch (`carry`)

The letter behind it is the length: n vertices of a batch, r remote vertices, h hits, m misses, a admitted rows,
e extra rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import Candidates, HaloTable, Ints, RemoteTable
from quatrain.graph.features.policy import EMPTY, Policy, make_policy
from quatrain.graph.features.row_pool import RowPool, scatter
from quatrain.graph.features.slots import NO_REPLACEMENT, Lookup, PrivateStore, Replacement, Slots, Store
from quatrain.graph.features.source import FeatureSource, read_async


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPart:
    """Features of the vertices first, first + 1, ... that this machine owns, float32 (count, F)."""

    first: int
    rows: Tensor

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(f"the first local vertex is {self.first}; it must be at least 0")
        if self.rows.dim() != 2 or self.rows.dtype != torch.float32:
            shape, dtype = tuple(self.rows.shape), self.rows.dtype
            raise ValueError(f"the local rows are {shape} {dtype}; they must be (count, F) torch.float32")

    def split(self, ids_n: Ints) -> tuple[Ints, Ints]:
        """Return the local row of each vertex, 0 for remote ones, and the indices of the remote ones."""
        row_n = ids_n - self.first
        remote_at_r = np.flatnonzero(row_n.view(np.uint64) >= np.uint64(len(self.rows)))  # negative: huge as unsigned
        row_n[remote_at_r] = 0
        return row_n, remote_at_r


@dataclass(frozen=True, slots=True)
class BatchLookup:
    """Where each vertex of a batch was found."""

    ids_n: Ints
    local_row_n: Ints
    """Row of each vertex in the local part, 0 for remote ones; empty without a local part."""
    remote_at_r: Ints
    remote: Lookup
    hit_rows: Tensor | None
    """Copies of the cached rows, float32 (h, F), if other trainers may overwrite them before `gather`; else None."""

    @property
    def miss_at_m(self) -> Ints:
        """Indices of the vertices that must be fetched."""
        return self.remote_at_r[self.remote.slot_r < 0]


class FeatureCache:
    """A feature source around another one. `read` does all five steps, which are public for measurement.

    If `can_overlap`, lookup, plan and fetch of a read may run before gather and commit of the read before: `plan`
    reserves slots at once, and `commit` writes rows in the same order.

    Use from one thread at a time. When the source raises, the policy has already changed: create a new cache.
    """

    def __init__(
        self,
        source: FeatureSource,
        halo: HaloTable,
        config: CacheConfig,
        dim: int,
        *,
        local: LocalPart | None = None,
        accesses: Iterable[Any] | None = None,
        vertex_count: int | None = None,
        store: Store | None = None,
        output_buffers: int = 0,
    ) -> None:
        """Fill the cache with one read of floor(fraction * halo size) rows of `dim` numbers.

        `local` holds this machine's own rows; without it all vertices are remote. `accesses` gives the ids of each
        upcoming step; policies that look ahead need it (UsageError without it). `vertex_count` is that of the whole
        graph, needed for `candidates="remote"` (ValueError without it). `store` is memory that the trainers of a
        machine share: the leading trainer fills it and runs the policy, the others wait until it is filled. With
        `output_buffers` (at least 2) a result is overwritten that many reads later; with 0, never.
        """
        if output_buffers == 1:
            raise ValueError(
                "output_buffers is 1; a batch must outlive the next read: use at least 2, or 0 for no reuse"
            )
        self.halo, self.config, self.dim = halo, config, dim
        self._carry = config.effective_carry
        self._source, self._local = source, local
        self._candidates = make_candidates(config, halo, vertex_count)
        self._store = store or PrivateStore(self._candidates.size, config.capacity(halo.size), dim)
        self._slots = Slots(self._candidates, self._store.slots, self.capacity)
        self._scratch, self._outputs = RowPool(dim, 1), RowPool(dim, output_buffers)
        self._previous_rows = torch.empty(0, dim)  # of the previous batch, for carry
        self._policy = self._fill(accesses, store) if self._store.leads else None
        self._store.ready()

    def _fill(self, accesses: Iterable[Any] | None, shared: Store | None) -> Policy:
        """Create the policy and read the rows that the cache holds at first."""
        if shared is not None and not self.config.spec.shareable:
            raise UsageError(
                f"the policy {self.config.policy!r} knows the steps of one trainer only: share a cache with 'lfu', "
                "or give each trainer its own"
            )
        remote = accesses if accesses is None or self._local is None else _remote_only(accesses, self._local)
        policy = make_policy(self.config, self._candidates, self.capacity, remote)
        with self._store.writing():
            first_pos = policy.fill()
            self._slots.fill(first_pos)
            self._store.rows[:] = self._request(self._candidates.vertices(first_pos))()
        return policy

    @property
    def capacity(self) -> int:
        """Rows of the cache."""
        return len(self._store.rows)

    @property
    def can_overlap(self) -> bool:
        """Whether a read may begin before the previous one has ended; False if other trainers share the cache."""
        return not self._store.shared

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the features of `ids_n`, int64 (n,), as float32 (n, F), equal to those of the source."""
        found = self.lookup(ids_n)
        replacement = self.plan(found)
        wait = self.fetch(found, replacement)
        out = self.gather(found, replacement)
        return self.commit(found, replacement, out, wait())

    def lookup(self, ids_n: Tensor) -> BatchLookup:
        """Return where each vertex is."""
        ids = np.ascontiguousarray(ids_n.numpy())
        local_row_n, remote_at_r = (EMPTY, np.arange(len(ids))) if self._local is None else self._local.split(ids)
        with self._store.reading():
            remote = self._slots.lookup(ids[remote_at_r])
            hit_rows = self._cached_rows(remote.slot_r[self._in_cache(remote.slot_r)]) if self._store.shared else None
            if not self._store.leads:
                self._store.report(remote.pos_r[remote.pos_r >= 0])
        return BatchLookup(ids, local_row_n, remote_at_r, remote, hit_rows)

    def plan(self, found: BatchLookup) -> Replacement:
        """Return what the policy replaces after this batch."""
        if self._policy is None:
            return NO_REPLACEMENT
        with self._store.writing():
            replacement = self._slots.plan(self._policy, found.remote, self._store.collect())
        if self.can_overlap:
            replacement = self._slots.reserve(replacement)
        if self._carry:
            self._slots.carry(found.remote.pos_r, found.remote_at_r)
        return replacement

    def fetch(self, found: BatchLookup, replacement: Replacement) -> Callable[[], Tensor]:
        """Request the batch's misses and, behind them, the extra rows to admit; return a callable that waits."""
        extra_ids = self._candidates.vertices(replacement.extra_pos_e)
        return self._request(np.concatenate([found.ids_n[found.miss_at_m], extra_ids]))

    def gather(self, found: BatchLookup, replacement: Replacement) -> Tensor:
        """Return the batch's rows, (n, F), in which the fetched ones are still missing."""
        out, slot_r = self._outputs.take(len(found.ids_n)), found.remote.slot_r
        if self._local is not None and len(self._local.rows):  # also for remote rows: leaving them out costs more
            torch.index_select(self._local.rows, 0, torch.from_numpy(found.local_row_n), out=out)
        hit, carried = self._in_cache(slot_r), np.flatnonzero(slot_r >= self.capacity)
        scatter(
            out, found.remote_at_r[hit], self._cached_rows(slot_r[hit]) if found.hit_rows is None else found.hit_rows
        )
        scatter(out, found.remote_at_r[carried], self._select(self._previous_rows, slot_r[carried] - self.capacity))
        if replacement.from_previous:
            self._replace(replacement, self._previous_rows)
        return out

    def commit(self, found: BatchLookup, replacement: Replacement, out: Tensor, fetched: Tensor) -> Tensor:
        """Write the fetched rows to the batch's rows and to the cache; return the batch's rows, (n, F)."""
        miss_at_m = found.miss_at_m
        scatter(out, miss_at_m, fetched[: len(miss_at_m)])
        if not replacement.from_previous:
            self._replace(replacement, fetched)
        if self._carry:
            self._previous_rows = out
        return out

    def _replace(self, replacement: Replacement, source: Tensor) -> None:
        """Write admitted rows over evicted ones; no other trainer finds a vertex whose row is half written."""
        if len(replacement.admitted_pos_a) == 0:
            return
        rows = self._select(source, replacement.source_row_a)
        if self.can_overlap:
            scatter(self._store.rows, replacement.slot_a, rows)
            return
        with self._store.writing():
            slot_a = self._slots.evict(replacement)
            scatter(self._store.rows, slot_a, rows)
            self._slots.admit(replacement, slot_a)

    def _in_cache(self, slot_r: Ints) -> Ints:
        return np.flatnonzero((slot_r >= 0) & (slot_r < self.capacity))

    def _cached_rows(self, slot_h: Ints) -> Tensor:
        return self._select(self._store.rows, slot_h)

    def _select(self, rows: Tensor, index: Ints) -> Tensor:
        """Return some of `rows`, valid until the next call."""
        return torch.index_select(rows, 0, torch.from_numpy(index), out=self._scratch.take(len(index)))

    def _request(self, ids: Ints) -> Callable[[], Tensor]:
        if len(ids) == 0:
            return lambda: torch.empty(0, self.dim)
        wait = read_async(self._source, torch.from_numpy(ids))
        return lambda: self._checked(wait(), len(ids))

    def _checked(self, rows: Tensor, count: int) -> Tensor:
        if rows.shape != (count, self.dim) or rows.dtype != torch.float32:
            got, wanted = f"{tuple(rows.shape)} {rows.dtype}", f"({count}, {self.dim}) torch.float32"
            raise ValueError(f"the source returned {got} for {count} vertices; it must be {wanted}")
        return rows


def make_candidates(config: CacheConfig, halo: HaloTable, vertex_count: int | None) -> Candidates:
    """Return the vertices that may be cached under `config`; ValueError if that needs `vertex_count`."""
    if config.effective_candidates == "halo":
        return halo
    if vertex_count is None:
        raise ValueError("candidates='remote' needs vertex_count, the number of vertices of the whole graph")
    return RemoteTable(vertex_count, halo)


def _remote_only(accesses: Iterable[Any], local: LocalPart) -> Iterable[Ints]:
    for step in accesses:
        ids = np.asarray(step, dtype=np.int64)
        yield ids[local.split(ids)[1]]
