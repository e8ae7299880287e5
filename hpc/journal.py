"""A file of JSON lines that one process appends to, thousands of times a second if need be."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from quatrain.records import plain


class Journal:
    """Lines that are each written whole by one call; a tail that a crash or a full disk tore is closed off."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, making it and its folder when they are missing; OSError when that fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._dirty = self._torn = False
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def append(self, value: Any) -> None:
        """Write `value` as one line; OSError when the disk is full."""
        line = json.dumps(plain(value), separators=(",", ":")).encode() + b"\n"
        with self._lock:
            rest = b"\n" + line if self._torn else line
            while rest:  # a disk that fills up takes a part, and the next call raises
                written = os.write(self._descriptor, rest)
                rest, self._torn, self._dirty = rest[written:], True, True
            self._torn = False

    def sync(self) -> None:
        """Bring what was written to the disk itself."""
        with self._lock:
            if self._dirty:
                os.fsync(self._descriptor)
                self._dirty = False

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1
