"""Atomic file writes, JSON, and append-only journals that survive a crash during a write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`, on failure remove it.

    The new file keeps the suffix of `path`, for writers that choose their format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` (plain data or dataclasses) as indented JSON, atomically."""
    write_text(path, json.dumps(plain(value), indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file; raise ValueError with the file's name if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def append_line(path: str | os.PathLike[str], value: Any) -> None:
    """Append `value` as one JSON line with a single write; an incomplete last line is ended first."""
    line = json.dumps(plain(value)).encode() + b"\n"
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def read_lines(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield the values of a file of JSON lines; incomplete lines are skipped, a missing file yields nothing."""
    try:
        text = Path(path).read_bytes().decode("utf8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def plain(value: Any) -> Any:
    """Return a value with dataclasses, paths, tuples and numpy scalars converted to JSON types, recursively.

    JSON has neither NaN nor infinities: they are converted to None.
    """
    if value is None or isinstance(value, str | int):  # most values by far
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fingerprint(value: Any) -> str:
    """Return eight hexadecimal digits of a hash of `value`'s content, the same on every machine."""
    text = json.dumps(plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class Journal:
    """An append-only file of JSON lines; an incomplete last line, after a crash or a full disk, is ended first."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending and create it and its folder if missing; OSError if that fails."""
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
            while rest:  # on a full disk a call writes a part and the next one raises
                written = os.write(self._descriptor, rest)
                rest, self._torn, self._dirty = rest[written:], True, True
            self._torn = False

    def sync(self) -> None:
        """Flush written lines to the disk (fsync)."""
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
