"""One buffer for all trainers of a machine, in shared memory.

Trainers of one machine have the same halo. One of them, reader 0, runs the policy and writes; the others read rows and
tell it what they accessed. Locks are file locks, which the kernel releases when a process dies; a row is written while
no position points to it, so a death in the middle leaves nothing half-written to be read.

The memory is a file in /dev/shm that loses its name as soon as the last reader has it: from then on no end of any
process, however sudden, leaves a segment behind. Before, whoever fails or gives up waiting removes it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quatrain.errors import UsageError
from quatrain.graph.features.candidates import Ints
from quatrain.graph.features.policy import EMPTY

MAGIC, WAIT_S = 0x71756174, 0.01
_MAGIC, _SIZE, _ROWS, _DIM, _READERS, _READY, _ATTACHED = range(7)
_HEADER, _PAGE = 16, 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedShape:
    """What all readers of a shared buffer agree on."""

    size: int
    """Candidates."""
    rows: int
    dim: int
    readers: int
    log: int = 1 << 18
    """Accesses that a reader can tell before they are heard; what does not fit is not counted."""

    def __post_init__(self) -> None:
        if self.readers < 1 or self.log < 1:
            raise ValueError(f"readers are {self.readers} and log is {self.log}; both must be at least 1")

    def facts(self) -> list[int]:
        """Return what the header holds."""
        return [MAGIC, self.size, self.rows, self.dim, self.readers]

    def places(self) -> list[int]:
        """Return where header, told counts, logs, slots and rows begin, and where all ends, in bytes."""
        sizes = [8 * _HEADER, 16 * self.readers, 8 * self.readers * self.log, 4 * (self.size + 1)]
        begins = [0]
        for size in [*sizes, 4 * self.rows * self.dim]:
            begins.append(-(-(begins[-1] + size) // _PAGE) * _PAGE)
        return begins


class SharedStore:
    """A `Store` that several processes of a machine have in common."""

    shared = True

    def __init__(self, path: str | os.PathLike[str], shape: SharedShape, *, reader: int, timeout_s: float = 60) -> None:
        """Make the segment (reader 0) or wait for it (the others).

        `path` lies in /dev/shm and is new in every job: UsageError when reader 0 finds one, when there is not enough
        memory, or when the others find one of another shape; TimeoutError when it is not there in time.
        """
        if not 0 <= reader < shape.readers:
            raise ValueError(f"reader is {reader}; it must lie between 0 and {shape.readers - 1}")
        self._path, self._shape, self._reader, self._timeout_s = Path(path), shape, reader, timeout_s
        self.leads = reader == 0
        self._file = _create(self._path, shape) if self.leads else self._wait_for_file()
        self._map()
        if self.leads:
            self.slots.fill(-1)
            self._header[:5] = shape.facts()
        self._attach()

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self._shape.places()[-1])  # lives as long as the arrays that look into it
        header, told, logs, slots, rows, _ = self._shape.places()
        readers, shape = self._shape.readers, self._shape
        self._header = np.frombuffer(memory, np.int64, _HEADER, header)
        self._told = np.frombuffer(memory, np.int64, 2 * readers, told).reshape(readers, 2)  # told, heard
        self._logs = np.frombuffer(memory, np.int64, readers * shape.log, logs).reshape(readers, shape.log)
        self.slots = np.frombuffer(memory, np.int32, shape.size + 1, slots)
        features = np.frombuffer(memory, np.float32, shape.rows * shape.dim, rows) if shape.rows * shape.dim else None
        empty = np.empty(0, np.float32)
        self.rows = torch.from_numpy(empty if features is None else features).reshape(shape.rows, shape.dim)

    def _wait_for_file(self) -> int:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                file = os.open(self._path, os.O_RDWR)
            except FileNotFoundError:
                file = -1
            if file >= 0 and os.fstat(file).st_size >= 8 * _HEADER:
                facts = np.frombuffer(os.pread(file, 40, 0), np.int64).tolist()
                if facts[0] == MAGIC:
                    return self._checked(file, facts)
            if file >= 0:
                os.close(file)
            self._wait(deadline, "has not made it")

    def _checked(self, file: int, facts: list[int]) -> int:
        if facts != self._shape.facts():
            os.close(file)
            raise UsageError(
                f"the shared buffer {self._path} has (candidates, rows, numbers, readers) {tuple(facts[1:])}, this "
                f"reader wants {tuple(self._shape.facts()[1:])}: give all trainers of a machine the same settings"
            )
        return file

    def _wait(self, deadline: float, what: str) -> None:
        """Sleep a moment; after the deadline remove the segment and raise."""
        if time.monotonic() > deadline:
            self._path.unlink(missing_ok=True)
            raise TimeoutError(f"the shared buffer {self._path}: reader 0 {what} within {self._timeout_s:g} s")
        time.sleep(WAIT_S)

    def _attach(self) -> None:
        """Count in; the last one takes the name away."""
        with self.writing():
            self._header[_ATTACHED] += 1
            if self._header[_ATTACHED] == self._shape.readers:
                self._path.unlink(missing_ok=True)

    def ready(self) -> None:
        """Say that the rows are filled (reader 0), or wait until they are; TimeoutError when that takes too long."""
        deadline = time.monotonic() + self._timeout_s
        if self.leads:
            with self.writing():
                self._header[_READY] = 1
        while not self._header[_READY]:
            self._wait(deadline, "has not filled it")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a lock that others may hold for reading too."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def tell(self, positions: Ints) -> None:
        """Put accesses into this reader's log as far as they fit."""
        told, heard = self._told[self._reader].tolist()
        fits = positions[: self._shape.log - (told - heard)]
        self._logs[self._reader, (told + np.arange(len(fits))) % self._shape.log] = fits
        self._told[self._reader, 0] = told + len(fits)

    def hear(self) -> Ints:
        """Take what all the logs hold."""
        heard = [EMPTY]
        for log, counts in zip(self._logs, self._told, strict=True):
            told, before = counts.tolist()
            heard.append(log[np.arange(before, told) % self._shape.log])
            counts[1] = told
        return np.concatenate(heard)

    def close(self) -> None:
        """Give up the lock's file; the memory goes with the last array that looks into it."""
        os.close(self._file)


def _create(path: Path, shape: SharedShape) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"the shared buffer {path} exists: another run has it, or remove what a dead one left"
        ) from error
    try:
        os.posix_fallocate(file, 0, shape.places()[-1])  # else a full /dev/shm would kill the process later
    except OSError as error:
        path.unlink()
        os.close(file)
        size = shape.places()[-1] / 1e6
        raise UsageError(f"{path.parent} has no room for a shared buffer of {size:,.1f} MB: lower fraction") from error
    return file
