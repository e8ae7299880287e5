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

from quatrain.graph.halo import Candidates, HaloTable, Ints, RemoteTable
from quatrain.graph.policies import make_policy
from quatrain.graph.residents import Change, Place, Residents
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.source import FeatureSource


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
    ) -> None:
        """Fill the buffer with one pull of floor(f H) rows of `dim` numbers.

        `local` are this machine's own rows (without it everything is remote); `accesses` tells the ids of each step to
        come, for the policies that foresee (UsageError without it); `vertex_count` is that of the whole graph, needed
        where every remote vertex may be kept (ValueError without it).
        """
        self.halo, self.config, self.dim = halo, config, dim
        self._source, self._local = source, local
        self._candidates = candidates(config, halo, vertex_count)
        told = accesses if accesses is None or local is None else _remote_only(accesses, local)
        policy = make_policy(config, self._candidates, config.rows(halo.size), told)
        self._residents = Residents(self._candidates, policy)
        self._rows = self._read(self._candidates.vertices(self._residents.initial))

    @property
    def rows(self) -> int:
        """How many rows the buffer holds."""
        return len(self._rows)

    def read(self, vertices: Tensor) -> Tensor:
        """Return the features of `vertices`, int64 (n,), as float32 (n, F), equal to a direct read of the source."""
        found = self.find(vertices)
        change = self.decide(found)
        pulled = self.pull(found, change)
        rows = self.assemble(found, pulled)
        self.replace(change, pulled)
        return rows

    def find(self, vertices: Tensor) -> Found:
        """Look the vertices up."""
        ids = np.ascontiguousarray(vertices.numpy())
        if self._local is None:
            return Found(ids, np.empty(0, np.int64), np.arange(len(ids)), self._residents.find(ids))
        own = (ids >= self._local.first) & (ids < self._local.stop)
        remote = np.flatnonzero(~own)
        return Found(ids, np.flatnonzero(own), remote, self._residents.find(ids[remote]))

    def decide(self, found: Found) -> Change:
        """Let the policy learn from a step and say what it wants changed."""
        return self._residents.decide(found.place)

    def pull(self, found: Found, change: Change) -> Tensor:
        """Read from the source what a step misses and, behind it, the newcomers that are not among that."""
        extra = self._candidates.vertices(change.extra)
        return self._read(np.concatenate([found.vertices[found.missed], extra]))

    def assemble(self, found: Found, pulled: Tensor) -> Tensor:
        """Put a step's rows together, (n, F)."""
        out = torch.empty(len(found.vertices), self.dim)
        if self._local is not None and len(found.local):
            own = self._local.source.read(torch.from_numpy(found.vertices[found.local]))
            out.index_copy_(0, torch.from_numpy(found.local), own)
        inside = found.place.slots >= 0
        kept = self._rows.index_select(0, torch.from_numpy(found.place.slots[inside]))
        out.index_copy_(0, torch.from_numpy(found.remote[inside]), kept)
        missed = found.missed
        out.index_copy_(0, torch.from_numpy(missed), pulled[: len(missed)])
        return out

    def replace(self, change: Change, pulled: Tensor) -> None:
        """Write the newcomers' rows over those that leave."""
        if len(change.coming):
            rows = pulled.index_select(0, torch.from_numpy(change.pulled))
            self._rows.index_copy_(0, torch.from_numpy(self._residents.replace(change)), rows)

    def _read(self, vertices: Ints) -> Tensor:
        if len(vertices) == 0:
            return torch.empty(0, self.dim)
        return self._source.read(torch.from_numpy(vertices))


def candidates(config: BufferConfig, halo: HaloTable, vertex_count: int | None) -> Candidates:
    """Return what may be kept under `config`."""
    if config.candidates == "halo":
        return halo
    if vertex_count is None:
        raise ValueError("candidates='remote' needs vertex_count, the number of vertices of the whole graph")
    return RemoteTable(vertex_count, halo)


def _remote_only(accesses: Iterable[Any], local: LocalPart) -> Iterable[Ints]:
    for vertices in accesses:
        ids = np.asarray(vertices, dtype=np.int64)
        yield ids[(ids < local.first) | (ids >= local.stop)]
