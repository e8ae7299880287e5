"""What is known about an image in a file before its pixels are read, and the error of a file that holds none."""

from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray
from PIL import Image

MOST_PIXELS = 178_000_000
"""A larger image counts as a decompression bomb (Pillow's own limit for an error)."""
MOST_BYTES = 1_500_000_000
"""The largest frame that is read into memory."""
MOST_FRAMES = 100_000
"""The longest stack."""

_DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError, AssertionError, AttributeError, RuntimeError),
    *(MemoryError, EOFError, SyntaxError, NotImplementedError, struct.error, zlib.error),
    *(tifffile.TiffFileError, Image.DecompressionBombError),
)
"""What the decoders were seen to raise on damaged files and on files of another kind."""
_SPEAKING = (*(OSError, ValueError, SyntaxError, NotImplementedError, zlib.error), *_DAMAGED[-2:])
"""Those of them whose text says something to a user."""


class UnreadableError(ValueError):
    """A file that holds no image that can be decoded, and why; the message does not name the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSize:
    """Height and width of a pixel in nm, and where the two numbers were found."""

    y_nm: float
    x_nm: float
    source: str
    """What stated the size, such as "ImageJ description" or "--pixel-size"."""

    @property
    def nm(self) -> float:
        """Side in nm of the square with a pixel's area: the geometric mean of height and width."""
        return self.x_nm if self.y_nm == self.x_nm else math.sqrt(self.y_nm * self.x_nm)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """One image or stack of a file, as its header describes it."""

    key: str = ""
    """What selects this image in its file; empty in a file of one image."""
    name: str = ""
    """What the file calls the image, such as a detector; empty when it does not."""
    shape: tuple[int, ...]
    """(H, W) or (H, W, C) of one frame, as it is displayed."""
    dtype: str
    """Type of the file's own numbers, such as "uint16"."""
    frames: int = 1
    pixel_size: PixelSize | None = None
    no_pixel_size: str = "the file states no pixel size"
    """Why `pixel_size` is None."""
    scanned_rows: int | None = None
    """Rows above a data bar, when the metadata states them."""
    left_out: str = ""
    """Why the image is used only when it is named, such as "a preview"; empty for others."""
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, or the key of an image without a name."""
        return self.name or self.key


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """One format: which files it takes and how they are inspected and read."""

    name: str
    suffixes: tuple[str, ...]
    """In lower case, with the dot."""
    inspect: Callable[[Path], Sequence[ImageInfo]]
    """Return the images of a file from its header; raise UnreadableError if it holds no image."""
    read: Callable[[Path, ImageInfo, int, bool], NDArray[Any]]
    """Return frame `frame` of an image, (H, W) or (H, W, C), turned as it is displayed. With `labels`, the
    stored numbers: no palette and no inversion."""
    magic: tuple[bytes, ...] = ()
    """How such files begin."""
    stacks: bool = True
    """Whether a file may hold several frames."""
    one_by_key: bool = False
    """Whether a file of several images is refused unless one is named; otherwise all are used."""
    takes: str = ""
    """What is read, for docs/data.md."""
    pixel_size_from: str = ""
    refuses: str = ""


def check_size(shape: Sequence[int], itemsize: int = 1, frames: int = 1) -> None:
    """Raise UnreadableError for an image that is empty or too large to be read."""
    height, width = shape[:2]
    if min(shape) < 1 or frames < 1:
        raise UnreadableError(f"it has {width} x {height} pixels in {frames} frames")
    if height * width > MOST_PIXELS:
        raise UnreadableError(f"it has {width} x {height} pixels; the most are {MOST_PIXELS:,}")
    if math.prod(shape) * itemsize > MOST_BYTES:
        raise UnreadableError(f"a frame has {math.prod(shape) * itemsize:,} bytes; the most are {MOST_BYTES:,}")
    if frames > MOST_FRAMES:
        raise UnreadableError(f"it has {frames:,} frames; the most are {MOST_FRAMES:,}")


@contextmanager
def decoding() -> Iterator[None]:
    """Turn what decoders raise into UnreadableError; suppress their warnings and log lines."""
    logs = [logging.getLogger(name) for name in ("rsciio", "tifffile", "PIL")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableError:
        raise
    except _DAMAGED as error:
        raise UnreadableError(f"it cannot be decoded ({_reason(error)})") from error
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip()
    if not isinstance(error, _SPEAKING) or not text:
        return "it is damaged"
    return " ".join(str(text).split("\n")[0].split())[:200]
