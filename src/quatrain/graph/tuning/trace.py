"""Traces: the vertices that a trainer reads, step by step, in an append-only HDF5 file.

    attributes           format "quatrain-trace", version 1, dim F, vertex_count (of the whole graph), part
    halo/ids             int64 (H,), ascending      halo/degrees   int64 (H,), global in-degrees
    accesses/vertices    int64 (N,), the remote vertices of all steps one after the other, in the order of reading
    steps/end            int64 (S,), end of each step in accesses/vertices; the next step begins there
    steps/local          int64 (S,), local vertices that the step read
    steps/epoch          int64 (S,), from 0
    times/sample, times/train   float64 (T,), seconds of sampling and training per step, if known

The file is written in HDF5's single-writer-multiple-reader mode. It can be read while it grows (`swmr=True`), and
flushed steps remain readable after the process was killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from quatrain.errors import UsageError
from quatrain.graph.features.candidates import HaloTable, Ints

FORMAT, VERSION = "quatrain-trace", 1
_GROWING = {
    "accesses/vertices": "i8",
    "steps/end": "i8",
    "steps/local": "i8",
    "steps/epoch": "i8",
    "times/sample": "f8",
    "times/train": "f8",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceSetup:
    """Constants of a trace."""

    halo: HaloTable
    dim: int
    """Numbers per feature vector (F)."""
    vertex_count: int
    """Vertices of the whole graph."""
    part: int = 0
    """Part of the graph whose trainer is recorded."""


class TraceWriter:
    """Appends steps to a new trace; pending steps are flushed every `flush_every` steps and at the end."""

    def __init__(self, path: str | os.PathLike[str], setup: TraceSetup, *, flush_every: int = 16) -> None:
        """Create the file; UsageError when it exists."""
        if Path(path).exists():
            raise UsageError(f"the trace {os.fspath(path)} exists: choose another file or remove it")
        self._file = _begin(path, setup)
        self._flush_every, self._epoch, self._end = flush_every, 0, 0
        self._pending: dict[str, list[Any]] = {name: [] for name in _GROWING}

    def step(self, remote: Ints, local: int) -> None:
        """Append one step: the remote vertices that it reads, int64 (n,), and its number of local vertices."""
        self._end += len(remote)
        self._pending["accesses/vertices"].extend([np.asarray(remote, np.int64)])
        for name, value in (("steps/end", self._end), ("steps/local", local), ("steps/epoch", self._epoch)):
            self._pending[name].append([value])
        if len(self._pending["steps/end"]) >= self._flush_every:
            self._write()

    def read(self, vertices: Ints, own: range) -> None:
        """Append the step that reads `vertices`, int64 (n,); those in `own` are local."""
        remote = vertices[(vertices < own.start) | (vertices >= own.stop)]
        self.step(remote, len(vertices) - len(remote))

    def times(self, *, sample_s: float, train_s: float) -> None:
        """Append the seconds of sampling and training of one step."""
        self._pending["times/sample"].append([sample_s])
        self._pending["times/train"].append([train_s])

    def next_epoch(self) -> None:
        """Assign the following steps to the next epoch."""
        self._epoch += 1

    def close(self) -> None:
        """Write pending steps and close the file."""
        self._write()
        self._file.close()

    def _write(self) -> None:
        for name, chunks in self._pending.items():  # accesses first: a reader must find them before steps/end
            if chunks:
                _append(self._file[name], np.concatenate(chunks))
                chunks.clear()
        self._file.flush()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _begin(path: str | os.PathLike[str], setup: TraceSetup) -> Any:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = h5py.File(path, "x", libver="latest")
    file.attrs.update(format=FORMAT, version=VERSION, dim=setup.dim, vertex_count=setup.vertex_count, part=setup.part)
    file["halo/ids"] = setup.halo.ids
    file["halo/degrees"] = setup.halo.degrees(np.arange(setup.halo.size))
    for name, kind in _GROWING.items():
        large = name == "accesses/vertices"
        file.create_dataset(
            name,
            (0,),
            kind,
            maxshape=(None,),
            chunks=(1 << 16 if large else 1 << 10,),
            **({"compression": "gzip", "compression_opts": 1, "shuffle": True} if large else {}),
        )
    file.swmr_mode = True
    return file


def _append(dataset: Any, values: Any) -> None:
    begin = len(dataset)
    dataset.resize(begin + len(values), axis=0)
    dataset[begin:] = values


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A recorded trace in memory; arrays as in the file."""

    setup: TraceSetup
    vertices: Ints
    end: Ints
    local: Ints
    epoch: Ints
    sample_s: float | None = None
    """Mean seconds of sampling per step; None if not recorded."""
    train_s: float | None = None
    """Mean seconds of training per step; None if not recorded."""

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.end)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(np.unique(self.epoch))

    def steps(self) -> Iterator[Ints]:
        """Yield the remote vertices of each step."""
        begin = 0
        for end in self.end.tolist():
            yield self.vertices[begin:end]
            begin = end


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Return a trace, also one that is still growing or whose writer was killed; UsageError for any other file."""
    if not Path(path).is_file():
        raise UsageError(f"there is no trace {os.fspath(path)}: record one with `quatrain gnn --record-trace`")
    try:
        file = h5py.File(path, "r", libver="latest", swmr=True)
    except OSError as error:
        raise UsageError(f"{os.fspath(path)} is not a trace: not HDF5, or truncated ({error})") from error
    with file:
        if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
            raise UsageError(f"{os.fspath(path)} is not a {FORMAT} of version {VERSION}: use --record-trace")
        return _read(file)


def _read(file: Any) -> Trace:
    setup = TraceSetup(
        halo=HaloTable(file["halo/ids"][:], file["halo/degrees"][:]),
        dim=int(file.attrs["dim"]),
        vertex_count=int(file.attrs["vertex_count"]),
        part=int(file.attrs["part"]),
    )
    vertices, end = file["accesses/vertices"][:], file["steps/end"][:]
    whole = min(len(file["steps/epoch"]), len(file["steps/local"]), int(np.searchsorted(end, len(vertices), "right")))
    if whole == 0:
        raise UsageError(f"the trace {file.filename} has no complete step: record a longer run")
    return Trace(
        setup=setup,
        vertices=vertices,
        end=end[:whole],
        local=file["steps/local"][:whole],
        epoch=file["steps/epoch"][:whole],
        sample_s=_mean(file["times/sample"][:]),
        train_s=_mean(file["times/train"][:]),
    )


def _mean(seconds: Any) -> float | None:
    return float(np.mean(seconds)) if len(seconds) else None
