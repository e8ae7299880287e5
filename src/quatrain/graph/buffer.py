"""Features of a source with the likely rows kept in memory, bit for bit what the source itself would return.

MassiveGNN (arXiv 2410.22697): the buffer of a trainer holds features of halo vertices. A read looks every vertex up,
takes what it can from this part's own rows and from the buffer, and pulls all the rest at once, together with rows that
the policy wants to have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quatrain.errors import UsageError
from quatrain.graph.halo import Candidates, HaloTable, Ints, RemoteTable
from quatrain.graph.policies import make_policy
from quatrain.graph.policy import Policy
from quatrain.graph.residents import NO_CHANGE, Change, Place, Residents
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.source import FeatureSource
from quatrain.graph.store import PrivateStore, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPart:
    """The vertices first <= v < stop that this machine owns, and a source that reads them without the network."""

    first: int
    stop: int
    source: FeatureSource

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.stop:
            raise ValueError(f"the local vertices are {self.first} to {self.stop}; they must ascend from at least 0")


@dataclass(frozen=True, slots=True)
class Found:
    """Where each of a batch's n vertices is: indices into the batch, and the place of the remote ones."""

    vertices: Ints
    local: Ints
    remote: Ints
    place: Place

    @property
    def missed(self) -> Ints:
        """Indices into the batch of the vertices that must be pulled."""
        return self.remote[self.place.slots < 0]


class BufferedFeatures:
    """A source around a source. `read` is the one verb; its five parts are public for whoever counts or times them.

    Not for use by two threads at once. When the source raises, the policy has already decided: build a new buffer.
    """

    def __init__(
        self,
        source: FeatureSource,
        halo: HaloTable,
        config: BufferConfig,
        dim: int,
        *,
        local: LocalPart | None = None,
        accesses: Iterable[Any] | None = None,
        vertex_count: int | None = None,
        store: Store | None = None,
    ) -> None:
        """Fill the buffer with one pull of floor(f H) rows of `dim` numbers.

        `local` are this machine's own rows (without it everything is remote); `accesses` tells the ids of each step to
        come, for the policies that foresee (UsageError without it); `vertex_count` is that of the whole graph, needed
        where every remote vertex may be kept (ValueError without it). `store` is memory that the trainers of a machine
        share: the one that leads fills it and decides, the others wait until it is filled.
        """
        self.halo, self.config, self.dim = halo, config, dim
        self._source, self._local = source, local
        self._candidates = candidates(config, halo, vertex_count)
        self._store = store or PrivateStore(self._candidates.size, config.rows(halo.size), dim)
        self._residents = Residents(self._candidates, self._store.slots, self.rows)
        self._scratch = torch.empty(0, dim)  # used again and again: fresh pages cost more than the copy
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
            self._store.rows[:] = self._read(self._candidates.vertices(first))
        return policy

    @property
    def rows(self) -> int:
        """How many rows the buffer holds."""
        return len(self._store.rows)

    def read(self, vertices: Tensor) -> Tensor:
        """Return the features of `vertices`, int64 (n,), as float32 (n, F), equal to a direct read of the source."""
        found, kept = self.find(vertices)
        change = self.decide(found)
        pulled = self.pull(found, change)
        rows = self.assemble(found, kept, pulled)
        self.replace(change, pulled)
        self.carry(found, rows)
        return rows

    def find(self, vertices: Tensor) -> tuple[Found, Tensor]:
        """Look the vertices up and take out the rows that are there, (hits, F), valid until the next call."""
        ids = np.ascontiguousarray(vertices.numpy())
        own = np.zeros(len(ids), bool)
        if self._local is not None:
            own = (ids >= self._local.first) & (ids < self._local.stop)
        remote = np.flatnonzero(~own)
        with self._store.reading():
            found = Found(ids, np.flatnonzero(own), remote, self._residents.find(ids[remote]))
            kept = self._take(found.place.slots)
            if not self._store.leads:
                self._store.tell(found.place.positions[found.place.positions >= 0])
        return found, kept

    def decide(self, found: Found) -> Change:
        """Let the policy learn from a step and say what it wants changed."""
        if self._policy is None:
            return NO_CHANGE
        with self._store.writing():
            return self._residents.decide(self._policy, found.place, self._store.hear())

    def pull(self, found: Found, change: Change) -> Tensor:
        """Read from the source what a step misses and, behind it, the newcomers that are not among that."""
        extra = self._candidates.vertices(change.extra)
        return self._read(np.concatenate([found.vertices[found.missed], extra]))

    def assemble(self, found: Found, kept: Tensor, pulled: Tensor) -> Tensor:
        """Put a step's rows together, (n, F)."""
        out = torch.empty(len(found.vertices), self.dim)
        if self._local is not None and len(found.local):
            own = self._local.source.read(torch.from_numpy(found.vertices[found.local]))
            out.index_copy_(0, torch.from_numpy(found.local), own)
        out.index_copy_(0, torch.from_numpy(found.remote[found.place.slots >= 0]), kept)
        missed = found.missed
        out.index_copy_(0, torch.from_numpy(missed), pulled[: len(missed)])
        return out

    def replace(self, change: Change, pulled: Tensor) -> None:
        """Write the newcomers' rows over those that leave; at no moment does a vertex have a half-written row."""
        if len(change.coming) == 0:
            return
        rows = (self._before if change.carried else pulled).index_select(0, torch.from_numpy(change.origin))
        with self._store.writing():
            slots = self._residents.leave(change)
            self._store.rows.index_copy_(0, torch.from_numpy(slots), rows)
            self._residents.come(change, slots)

    def carry(self, found: Found, rows: Tensor) -> None:
        """Keep a batch's rows for the next step, where the configuration says so."""
        if self.config.carries:
            self._residents.carry(found.place.positions, found.remote)
            self._before = rows

    def _take(self, slots: Ints) -> Tensor:
        """Return the rows of those `slots` that are any, valid until the next call."""
        inside = torch.from_numpy(slots[slots >= 0])
        if len(inside) > len(self._scratch):
            self._scratch = torch.empty(len(inside) * 5 // 4, self.dim)
        kept = self._scratch[: len(inside)]
        if not self.config.carries:
            return torch.index_select(self._store.rows, 0, inside, out=kept)
        for slot, rows in ((inside, self._store.rows), (inside - self.rows, self._before)):
            at = torch.nonzero((slot >= 0) & (slot < len(rows)))[:, 0]
            kept.index_copy_(0, at, rows.index_select(0, slot[at]))
        return kept

    def _read(self, vertices: Ints) -> Tensor:
        if len(vertices) == 0:
            return torch.empty(0, self.dim)
        rows = self._source.read(torch.from_numpy(vertices))
        if rows.shape != (len(vertices), self.dim) or rows.dtype != torch.float32:
            got, wanted = f"{tuple(rows.shape)} {rows.dtype}", f"({len(vertices)}, {self.dim}) torch.float32"
            raise ValueError(f"the source returned {got} for {len(vertices)} vertices; it must be {wanted}")
        return rows


def candidates(config: BufferConfig, halo: HaloTable, vertex_count: int | None) -> Candidates:
    """Return what may be kept under `config`."""
    if config.among == "halo":
        return halo
    if vertex_count is None:
        raise ValueError("candidates='remote' needs vertex_count, the number of vertices of the whole graph")
    return RemoteTable(vertex_count, halo)


def _remote_only(accesses: Iterable[Any], local: LocalPart) -> Iterable[Ints]:
    for vertices in accesses:
        ids = np.asarray(vertices, dtype=np.int64)
        yield ids[(ids < local.first) | (ids >= local.stop)]
