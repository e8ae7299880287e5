"""Memory of one cache for all trainers of a machine.

Trainers of one machine have the same halo. Reader 0 leads: it runs the policy and writes rows. The others read rows and
report what they accessed. Locks are file locks, which the kernel releases when a process ends. A row is written while
no position points to it, so nobody reads a half-written row after a crash.

The memory is a file in /dev/shm that is unlinked as soon as the last reader has opened it. From then on no end of a
process leaves a file behind. Before that, the reader that fails or times out unlinks it.
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

MAGIC, POLL_S = 0x71756174, 0.01
_MAGIC, _SIZE, _ROWS, _DIM, _READERS, _READY, _ATTACHED = range(7)
_HEADER, _PAGE = 16, 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedShape:
    """Sizes that all readers of a shared cache agree on."""

    size: int
    """Candidates."""
    rows: int
    """Capacity of the cache."""
    dim: int
    """Numbers per row."""
    readers: int
    """Trainers that share the cache."""
    log: int = 1 << 18
    """Accesses that a reader can report before the leader collects them; further ones are not counted."""

    def __post_init__(self) -> None:
        if self.readers < 1 or self.log < 1:
            raise ValueError(f"readers are {self.readers} and log is {self.log}; both must be at least 1")

    def header(self) -> list[int]:
        """Return the first numbers of the header."""
        return [MAGIC, self.size, self.rows, self.dim, self.readers]

    def offsets(self) -> list[int]:
        """Return where header, access counts, logs, slots and rows begin, and the total size, in bytes."""
        sizes = [8 * _HEADER, 16 * self.readers, 8 * self.readers * self.log, 4 * (self.size + 1)]
        begins = [0]
        for size in [*sizes, 4 * self.rows * self.dim]:
            begins.append(-(-(begins[-1] + size) // _PAGE) * _PAGE)
        return begins


class SharedStore:
    """A `Store` that several processes of a machine share."""

    shared = True

    def __init__(self, path: str | os.PathLike[str], shape: SharedShape, *, reader: int, timeout_s: float = 60) -> None:
        """Create the file (reader 0) or wait for it (the others).

        `path` is in /dev/shm and new in every job. UsageError when reader 0 finds a file there, when memory is
        short, or when the file has another shape; TimeoutError when it does not exist within `timeout_s`.
        """
        if not 0 <= reader < shape.readers:
            raise ValueError(f"reader is {reader}; it must lie between 0 and {shape.readers - 1}")
        self._path, self._shape, self._reader, self._timeout_s = Path(path), shape, reader, timeout_s
        self.leads = reader == 0
        self._file = _create(self._path, shape) if self.leads else self._wait_for_file()
        self._map()
        if self.leads:
            self.slots.fill(-1)
            self._header[:5] = shape.header()
        self._attach()

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self._shape.offsets()[-1])  # lives as long as the arrays that use it
        header, counts, logs, slots, rows, _ = self._shape.offsets()
        readers, shape = self._shape.readers, self._shape
        self._header = np.frombuffer(memory, np.int64, _HEADER, header)
        self._counts = np.frombuffer(memory, np.int64, 2 * readers, counts).reshape(readers, 2)  # reported, collected
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
                header = np.frombuffer(os.pread(file, 40, 0), np.int64).tolist()
                if header[0] == MAGIC:
                    return self._checked(file, header)
            if file >= 0:
                os.close(file)
            self._wait(deadline, "did not create it")

    def _checked(self, file: int, header: list[int]) -> int:
        if header != self._shape.header():
            os.close(file)
            raise UsageError(
                f"the shared cache {self._path} has (candidates, rows, numbers, readers) {tuple(header[1:])}, this "
                f"reader wants {tuple(self._shape.header()[1:])}: give all trainers of a machine the same settings"
            )
        return file

    def _wait(self, deadline: float, problem: str) -> None:
        """Sleep for POLL_S; after the deadline unlink the file and raise TimeoutError."""
        if time.monotonic() > deadline:
            self._path.unlink(missing_ok=True)
            raise TimeoutError(f"the shared cache {self._path}: reader 0 {problem} within {self._timeout_s:g} s")
        time.sleep(POLL_S)

    def _attach(self) -> None:
        """Count this reader; the last one unlinks the file."""
        with self.writing():
            self._header[_ATTACHED] += 1
            if self._header[_ATTACHED] == self._shape.readers:
                self._path.unlink(missing_ok=True)

    def ready(self) -> None:
        """Announce that the rows are filled (reader 0), or wait until they are; TimeoutError after the timeout."""
        deadline = time.monotonic() + self._timeout_s
        if self.leads:
            with self.writing():
                self._header[_READY] = 1
        while not self._header[_READY]:
            self._wait(deadline, "did not fill it")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a lock that several readers may hold at once."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the exclusive lock."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def report(self, pos_n: Ints) -> None:
        """Append positions to this reader's log as far as they fit."""
        reported, collected = self._counts[self._reader].tolist()
        fits = pos_n[: self._shape.log - (reported - collected)]
        self._logs[self._reader, (reported + np.arange(len(fits))) % self._shape.log] = fits
        self._counts[self._reader, 0] = reported + len(fits)

    def collect(self) -> Ints:
        """Return the positions of all logs and empty these."""
        pos = [EMPTY]
        for log, counts in zip(self._logs, self._counts, strict=True):
            reported, collected = counts.tolist()
            pos.append(log[np.arange(collected, reported) % self._shape.log])
            counts[1] = reported
        return np.concatenate(pos)

    def close(self) -> None:
        """Close the lock's file; the memory is freed with the last array that uses it."""
        os.close(self._file)


def _create(path: Path, shape: SharedShape) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"the shared cache {path} exists: another run uses it, or a failed run left it. Remove it in that case"
        ) from error
    try:
        os.posix_fallocate(file, 0, shape.offsets()[-1])  # else a full /dev/shm would kill the process later
    except OSError as error:
        path.unlink()
        os.close(file)
        size = shape.offsets()[-1] / 1e6
        raise UsageError(f"{path.parent} has no space for a shared cache of {size:,.1f} MB: lower fraction") from error
    return file
