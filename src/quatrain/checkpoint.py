"""Torch checkpoints: written atomically, read without executing code from them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from quatrain.errors import UsageError
from quatrain.files import replacing

_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, AssertionError, AttributeError, EOFError, LookupError),
    *(OSError, OverflowError, RuntimeError, TypeError, ValueError),
)
"""Exceptions of torch's reader for files that are incomplete, damaged or not checkpoints."""


def save(path: str | os.PathLike[str], payload: dict[str, Any]) -> None:
    """Write `payload` (tensors, numbers, strings, lists, dicts) atomically; UsageError when the disk refuses it."""
    try:
        with replacing(path) as temporary, _Sink(io.FileIO(temporary, "w")) as sink:
            _write(sink, payload)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{os.fspath(path)!r} cannot be written: {reason}; free some space and try again") from error


def _write(sink: _Sink, payload: dict[str, Any]) -> None:
    try:
        torch.save(payload, sink)
    except RuntimeError as error:  # on a full disk torch reports only a file position
        raise sink.trouble or error from error


class _Sink(io.BufferedWriter):
    """A file that keeps the error of its last failed write."""

    trouble: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.trouble = error
            raise


def load(path: str | os.PathLike[str], device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint with weights_only=True; raise UsageError if it is missing or not a checkpoint."""
    try:
        payload = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"there is no checkpoint {os.fspath(path)!r}: give the path of a .pth or .pt file") from None
    except _UNREADABLE as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{os.fspath(path)!r} is not a checkpoint that can be read safely: {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(payload, dict):
        raise UsageError(f"{os.fspath(path)!r} holds a {type(payload).__name__}, not a dictionary of weights")
    return payload


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
