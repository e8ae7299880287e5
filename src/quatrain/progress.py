"""Progress of a long task, written to a small file in the run folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from quatrain.files import write_json

PERIOD_S = 0.5


class Meter:
    """Writes RUN_DIR/progress/TASK.json, atomically and at most twice a second.

    The file holds {"task", "done", "total", "note", "first", "began", "updated"}: `first` is the count at which this
    process began (a resumed task does not begin at 0), times are Unix seconds.
    """

    def __init__(self, run_dir: str | os.PathLike[str], task: str, *, total: int | None, done: int = 0) -> None:
        """Begin at `done` of `total`; `total` is None if it is not known."""
        self._path = Path(run_dir) / "progress" / f"{task}.json"
        self._done, self._total, self._note = done, total, ""
        self._fixed = {"task": task, "first": done, "began": time.time()}
        self._written = 0.0
        self._write()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Add `count` to the number done."""
        self.set(self._done + count, note)

    def set(self, done: int, note: str | None = None) -> None:
        """Record that `done` are done; a note such as `loss 0.31` is kept until the next one."""
        self._done = done
        self._note = self._note if note is None else note
        if done == self._total or time.monotonic() - self._written >= PERIOD_S:
            self._write()

    def finish(self) -> None:
        """Record that all is done, even if the total was not known."""
        self._total = self._total or max(1, self._done)
        self.set(self._total)

    def _write(self) -> None:
        moving = {"done": self._done, "total": self._total, "note": self._note, "updated": time.time()}
        write_json(self._path, {**self._fixed, **moving})
        self._written = time.monotonic()
