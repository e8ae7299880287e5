"""Progress of a run: bars on a terminal, plain lines in a log, both read from the files of RUN_DIR/progress."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from quatrain.files import read_json
from quatrain.hpc.run import Run
from quatrain.progress import Meter

POLL_S = 0.5
LINE_EVERY_S = 15.0
DUMB = ("dumb", "unknown")
"""Terminals that cannot move their cursor, so they show no bars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The progress of one task at its last report."""

    task: str
    done: int
    total: int | None
    note: str
    first: int
    began: float
    updated: float

    @property
    def finished(self) -> bool:
        """Whether all of the task is done."""
        return self.total is not None and self.done >= self.total

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left at the average speed so far; None before the speed is known."""
        new, elapsed = self.done - self.first, self.updated - self.began
        if self.total is None or new <= 0 or elapsed <= 0:
            return None
        return max(0.0, elapsed / new * (self.total - self.done))


def readings(run_dir: Path) -> list[Reading]:
    """Return the progress of a run's tasks, the oldest first; unreadable files are skipped."""
    found = [_reading(path) for path in (run_dir / "progress").glob("[!.]*.json")]
    return sorted((reading for reading in found if reading is not None), key=lambda reading: reading.began)


def _reading(path: Path) -> Reading | None:
    try:
        return Reading(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None


def span(seconds: float | None) -> str:
    """Return a time span as H:MM:SS, or `-:--:--` when it is not known."""
    if seconds is None:
        return "-:--:--"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Painter(Protocol):
    """Shows readings to the user."""

    def paint(self, reading: Reading) -> None:
        """Show the newest state of one task."""

    def say(self, text: str) -> None:
        """Show one permanent line."""

    def close(self) -> None:
        """Leave the terminal in order."""


class Lines:
    """Plain lines for logs: when a task begins and ends, and at most every 15 s between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, tuple[float, Reading]] = {}

    def paint(self, reading: Reading) -> None:
        """Print a line if the task begins or ends, or if its last line is 15 s old."""
        at, before = self._last.get(reading.task, (0.0, None))
        now = time.monotonic()
        if reading == before or (before is not None and before.finished and reading.finished):
            return
        if before is None or reading.finished or now - at >= LINE_EVERY_S:
            self._last[reading.task] = (now, reading)
            self.say(as_line(reading))

    def say(self, text: str) -> None:
        """Print `text` with the time before it."""
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing."""


def as_line(reading: Reading) -> str:
    """Return a reading as text, such as `search 40/200 (20 %), 0:02:10 left, best 0.71`."""
    if reading.total is None:
        return ", ".join(filter(None, [f"{reading.task} {reading.done or 'begins'}", reading.note]))
    percent = 100 * reading.done // max(1, reading.total)
    if reading.finished:
        tail = f"done in {span(reading.updated - reading.began)}"
    else:
        tail = "" if reading.left_s is None else f"{span(reading.left_s)} left"
    return ", ".join(filter(None, [f"{reading.task} {reading.done}/{reading.total} ({percent} %)", tail, reading.note]))


class Bars:
    """Bars for a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", justify="right"),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
            expand=True,
        )
        self._ids: dict[str, Any] = {}
        self._bars.start()

    def paint(self, reading: Reading) -> None:
        """Update the task's bar, or create it."""
        if reading.task not in self._ids:
            self._ids[reading.task] = self._bars.add_task(reading.task, total=reading.total, left="", note="")
        left = f"took {span(reading.updated - reading.began)}" if reading.finished else f"{span(reading.left_s)} left"
        bar = self._ids[reading.task]
        self._bars.update(bar, completed=reading.done, total=reading.total, left=left, note=reading.note)

    def say(self, text: str) -> None:
        """Print `text` above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Draw the last state and release the terminal."""
        self._bars.stop()


class View:
    """Progress output of a running workflow."""

    def __init__(self, run: Run, painter: Painter) -> None:
        self._run = run
        self._painter = painter
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()

    def task(self, name: str, total: int | None = None) -> Doing:
        """Begin a task; without a total, its own Meter reports one. Usable as `with show.task(...):`."""
        self._meters[name] = Meter(self._run.path, name, total=total)
        return Doing(self, name, counted=total is not None)

    def advance(self, name: str, count: int = 1, note: str | None = None) -> None:
        """Count more of a task as done."""
        with self._lock:  # results come in on threads of Parsl's
            self._meters[name].advance(count, note)

    def say(self, text: str) -> None:
        """Show one permanent line below the present progress."""
        with self._lock:
            self._paint()
            self._painter.say(text)

    def refresh(self) -> None:
        """Read the run folder and show its progress."""
        with self._lock:
            self._paint()

    def _paint(self) -> None:
        for reading in readings(self._run.path):
            self._painter.paint(reading)

    def finish(self, name: str) -> None:
        """Finish a task that was begun without a total and has not reported one."""
        if any(reading.task == name and reading.total is None for reading in readings(self._run.path)):
            self._meters[name].finish()
        self.refresh()


@dataclass(frozen=True, slots=True)
class Doing:
    """A task in progress; leaving its `with` block completes its bar."""

    view: View
    name: str
    counted: bool

    def __enter__(self) -> Doing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self.counted:
            self.view.finish(self.name)


@contextmanager
def progress(run: Run, stream: TextIO | None = None) -> Iterator[View]:
    """Show the progress of a run until the block ends: bars if `stream` (standard output) is a terminal, else lines.

    A terminal whose TERM is in DUMB gets lines.
    """
    stream = stream or sys.stdout
    for stale in (run.path / "progress").glob("*.json"):
        stale.unlink()
    able = stream.isatty() and os.environ.get("TERM", "") not in DUMB
    painter: Painter = Bars(stream) if able else Lines(stream)
    view, stop = View(run, painter), threading.Event()
    thread = threading.Thread(target=_repeat, args=(view, stop), name="quatrain-progress", daemon=True)
    thread.start()
    try:
        yield view
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(BrokenPipeError):  # the reader has ended: the command returns its exit code
            view.refresh()
            painter.close()


def _repeat(view: View, stop: threading.Event) -> None:
    while not stop.wait(POLL_S):
        try:
            view.refresh()
        except BrokenPipeError:  # the reader has ended: as when a terminal hangs up
            os.kill(os.getpid(), signal.SIGHUP)
            return
