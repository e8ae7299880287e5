"""Features of a source with the likely rows kept in memory, bit for bit what the source itself would return.

MassiveGNN (arXiv 2410.22697): the buffer of a trainer holds features of halo vertices. A read looks every vertex up,
takes what it can from this part's own rows and from the buffer, and pulls all the rest at once, together with rows that
the policy wants to have.
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
from quatrain.graph.features.policies import make_policy
from quatrain.graph.features.policy import EMPTY, Policy
from quatrain.graph.features.row_pool import RowPool, scatter
from quatrain.graph.features.slots import NO_REPLACEMENT, Lookup, PrivateStore, Replacement, Slots, Store
from quatrain.graph.features.source import FeatureSource, ask


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPart:
    """The vertices first, first + 1, ... that this machine owns, and their features, float32 (count, F)."""

    first: int
    rows: Tensor

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(f"the first local vertex is {self.first}; it must be at least 0")
        if self.rows.dim() != 2 or self.rows.dtype != torch.float32:
            shape, dtype = tuple(self.rows.shape), self.rows.dtype
            raise ValueError(f"the local rows are {shape} {dtype}; they must be (count, F) torch.float32")

    def split(self, vertices: Ints) -> tuple[Ints, Ints]:
        """Return the local row of each vertex, any one for those of other parts, and where these stand."""
        at = vertices - self.first
        away = np.flatnonzero(at.view(np.uint64) >= np.uint64(len(self.rows)))  # a negative number is a huge one here
        at[away] = 0
        return at, away


@dataclass(frozen=True, slots=True)
class BatchLookup:
    """Where each of a batch's n vertices is."""

    vertices: Ints
    own: Ints
    """The local row of each vertex, any one for the remote ones; empty where nothing is local, (n,) or (0,)."""
    remote: Ints
    """Indices into the batch of vertices of other parts."""
    place: Lookup
    """Where the remote ones are."""
    kept: Tensor | None
    """Rows of those that the buffer had, where others might write over them before they are laid, (hits, F)."""

    @property
    def missed(self) -> Ints:
        """Indices into the batch of the vertices that must be pulled."""
        return self.remote[self.place.slots < 0]


class FeatureCache:
    """A source around a source. `read` is the one verb; its parts are public for whoever counts or times them.

    Where `overlaps`, the first three parts of a read (find, decide, ask) may come before the last two (lay, finish) of
    the read before: what is where is settled by the former, the rows follow in the same order by the latter.

    Not for use by two threads at once. When the source raises, the policy has already decided: build a new buffer.
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
        turns: int = 0,
    ) -> None:
        """Fill the buffer with one pull of floor(f H) rows of `dim` numbers.

        `local` are this machine's own rows (without it everything is remote); `accesses` tells the ids of each step to
        come, for the policies that foresee (UsageError without it); `vertex_count` is that of the whole graph, needed
        where every remote vertex may be kept (ValueError without it). `store` is memory that the trainers of a machine
        share: the one that leads fills it and decides, the others wait until it is filled. With `turns` a batch's rows
        are written over by the read that many reads later, at least 2; without, never.
        """
        if turns == 1:
            raise ValueError("turns is 1; a batch must outlive the making of the next: 2 or more, or 0 for ever")
        self.halo, self.config, self.dim = halo, config, dim
        self._source, self._local = source, local
        self._candidates = candidates(config, halo, vertex_count)
        self._store = store or PrivateStore(self._candidates.size, config.rows(halo.size), dim)
        self._residents = Slots(self._candidates, self._store.slots, self.rows)
        self._scratch, self._room = RowPool(dim, 1), RowPool(dim, turns)
        self._before = torch.empty(0, dim)  # the batch before, with config.carry
        self._policy = self._lead(accesses, store) if self._store.leads else None
        self._store.ready()

    def _lead(self, accesses: Iterable[Any] | None, shared: Store | None) -> Policy:
        if shared is not None and self.config.policy == "schedule":
            raise UsageError(
                "the policy 'schedule' knows one trainer's steps: give each its own buffer, or use 'counts'"
            )
        told = accesses if accesses is None or self._local is None else _remote_only(accesses, self._local)
        policy = make_policy(self.config, self._candidates, self.rows, told)
        with self._store.writing():
            first = policy.fill()
            self._residents.begin(first)
            self._store.rows[:] = self._asked(self._candidates.vertices(first))()
        return policy

    @property
    def rows(self) -> int:
        """How many rows the buffer holds."""
        return len(self._store.rows)

    @property
    def overlaps(self) -> bool:
        """Whether a read may begin before the one before has ended; not where others write into the buffer."""
        return not self._store.shared

    def read(self, vertices: Tensor) -> Tensor:
        """Return the features of `vertices`, int64 (n,), as float32 (n, F), equal to a direct read of the source."""
        found = self.find(vertices)
        change = self.decide(found)
        pulled = self.ask(found, change)
        rows = self.lay(found, change)
        return self.finish(found, change, rows, pulled())

    def find(self, vertices: Tensor) -> BatchLookup:
        """Look the vertices up."""
        ids = np.ascontiguousarray(vertices.numpy())
        own, remote = (EMPTY, np.arange(len(ids))) if self._local is None else self._local.split(ids)
        with self._store.reading():
            place = self._residents.find(ids[remote])
            kept = self._rows_of(place.slots[self._inside(place.slots)]) if self._store.shared else None
            if not self._store.leads:
                self._store.tell(place.positions[place.positions >= 0])
        return BatchLookup(ids, own, remote, place, kept)

    def decide(self, found: BatchLookup) -> Replacement:
        """Let the policy learn from a step and say what it wants changed."""
        if self._policy is None:
            return NO_REPLACEMENT
        with self._store.writing():
            change = self._residents.decide(self._policy, found.place, self._store.hear())
        if self.overlaps:
            change = self._residents.settle(change)
        if self.config.carries:
            self._residents.carry(found.place.positions, found.remote)
        return change

    def ask(self, found: BatchLookup, change: Replacement) -> Callable[[], Tensor]:
        """Ask for what a step misses and, behind it, newcomers that are not among that; return what waits for them."""
        extra = self._candidates.vertices(change.extra)
        return self._asked(np.concatenate([found.vertices[found.missed], extra]))

    def lay(self, found: BatchLookup, change: Replacement) -> Tensor:
        """Do all that needs no pull; return the step's rows, (n, F), without those that are pulled."""
        out, slots = self._room.take(len(found.vertices)), found.place.slots
        if self._local is not None and len(self._local.rows):  # remote rows too: to leave them out costs more
            torch.index_select(self._local.rows, 0, torch.from_numpy(found.own), out=out)
        inside, carried = self._inside(slots), np.flatnonzero(slots >= self.rows)
        scatter(out, found.remote[inside], self._rows_of(slots[inside]) if found.kept is None else found.kept)
        scatter(out, found.remote[carried], self._selected(self._before, slots[carried] - self.rows))
        if change.carried:
            self._replace(change, self._before)
        return out

    def finish(self, found: BatchLookup, change: Replacement, rows: Tensor, pulled: Tensor) -> Tensor:
        """Put in what was pulled, among the step's rows and in the buffer; return the former."""
        missed = found.missed
        scatter(rows, missed, pulled[: len(missed)])
        if not change.carried:
            self._replace(change, pulled)
        if self.config.carries:
            self._before = rows
        return rows

    def _replace(self, change: Replacement, source: Tensor) -> None:
        """Write the newcomers' rows over those that leave; nobody else finds a vertex whose row is half written."""
        if len(change.coming) == 0:
            return
        rows = self._selected(source, change.origin)
        if self.overlaps:
            scatter(self._store.rows, change.slots, rows)
            return
        with self._store.writing():
            slots = self._residents.leave(change)
            scatter(self._store.rows, slots, rows)
            self._residents.come(change, slots)

    def _inside(self, slots: Ints) -> Ints:
        return np.flatnonzero((slots >= 0) & (slots < self.rows))

    def _rows_of(self, slots: Ints) -> Tensor:
        return self._selected(self._store.rows, slots)

    def _selected(self, rows: Tensor, at: Ints) -> Tensor:
        """Return some of `rows`, valid until the next call."""
        return torch.index_select(rows, 0, torch.from_numpy(at), out=self._scratch.take(len(at)))

    def _asked(self, vertices: Ints) -> Callable[[], Tensor]:
        if len(vertices) == 0:
            return lambda: torch.empty(0, self.dim)
        rows = ask(self._source, torch.from_numpy(vertices))
        return lambda: self._checked(rows(), len(vertices))

    def _checked(self, rows: Tensor, count: int) -> Tensor:
        if rows.shape != (count, self.dim) or rows.dtype != torch.float32:
            got, wanted = f"{tuple(rows.shape)} {rows.dtype}", f"({count}, {self.dim}) torch.float32"
            raise ValueError(f"the source returned {got} for {count} vertices; it must be {wanted}")
        return rows


def candidates(config: CacheConfig, halo: HaloTable, vertex_count: int | None) -> Candidates:
    """Return what may be kept under `config`."""
    if config.among == "halo":
        return halo
    if vertex_count is None:
        raise ValueError("candidates='remote' needs vertex_count, the number of vertices of the whole graph")
    return RemoteTable(vertex_count, halo)


def _remote_only(accesses: Iterable[Any], local: LocalPart) -> Iterable[Ints]:
    for vertices in accesses:
        ids = np.asarray(vertices, dtype=np.int64)
        yield ids[local.split(ids)[1]]
