"""What `quatrain check` reports of image files: formats, sizes, pixel sizes, truths and warnings, from the headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from quatrain.data.decode import ImageInfo, UnreadableError, inspect, read, reader_of
from quatrain.data.folder import TRUTH, image_files, is_truth
from quatrain.data.open import open_images
from quatrain.errors import UsageError

Purpose = Literal["nas", "boost"]
"""The workflow that is to read the images."""
VALUES_BYTES = 64_000_000
"""Smallest and largest pixel values are read until this many bytes are decoded; later images have None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCheck:
    """One image of a file, and the range of the pixels of its first frame."""

    info: ImageInfo
    smallest: float | None = None
    largest: float | None = None
    """None when the pixels were not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCheck:
    """One file of a folder."""

    path: str
    """Relative to the folder that was given."""
    kind: str
    """The format's name; "unknown" for a file that cannot be read."""
    images: tuple[ImageCheck, ...] = ()
    truth: str | None = None
    """Name of the label map beside it."""
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the file as `quatrain check --json` prints it."""
        return {
            "path": self.path,
            "kind": self.kind,
            "images": [_image_json(image) for image in self.images],
            "truth": self.truth,
            "warnings": list(self.warnings),
            "error": self.error,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesCheck:
    """All image files of a source."""

    files: tuple[FileCheck, ...]
    warnings: tuple[str, ...] = ()
    """Of the source as a whole, such as annotations that are skipped."""
    error: str | None = None
    """Why the source cannot be used; one line."""

    @property
    def warning_count(self) -> int:
        """Warnings of the source and its files, and files that cannot be read."""
        return len(self.warnings) + sum(len(file.warnings) + (file.error is not None) for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return the whole check as `quatrain check --json` prints it."""
        summary = {
            "files": len(self.files),
            "images": sum(len(file.images) for file in self.files),
            "truths": sum(file.truth is not None for file in self.files),
            "unreadable": sum(file.error is not None for file in self.files),
            "warnings": list(self.warnings),
            "error": self.error,
        }
        return {"files": [file.as_json() for file in self.files], "summary": summary}


def check_images(
    path: Path,
    purpose: Purpose | None = None,
    each: Callable[[int, int], None] | None = None,
    *,
    values_bytes: int = VALUES_BYTES,
    most: int | None = None,
) -> ImagesCheck:
    """Inspect one image file, a folder of images, or a COCO file with its images.

    For nas, the source is also opened as nas opens it, so that images without truth and damaged annotations appear.
    `each` is called with the number of finished and of all files. `values_bytes` bounds the decoded pixels, `most` the
    number of files. Nothing is raised for damaged files; UsageError when there is nothing at `path`.
    """
    files = _files(path)[:most]
    root = path if path.is_dir() else path.parent
    checks, budget = [], values_bytes
    truths = {file.stem: file.name for file in files if is_truth(file)}
    for number, file in enumerate(files, 1):
        check = _check_file(file, root, budget)
        budget -= sum(_bytes(image.info) for image in check.images if image.smallest is not None)
        checks.append(replace(check, truth=None if is_truth(file) else truths.get(file.stem + TRUTH)))
        if each:
            each(number, len(files))
    warnings: tuple[str, ...] = ()
    error = None if any(check.images for check in checks) else f"{str(path)!r} holds no image that can be read"
    if purpose == "nas":
        try:
            skipped = open_images(str(path), size_px=256, seed=0).skipped
            warnings = tuple(f"{one.name}: {one.reason}" for one in skipped)
        except UsageError as problem:
            error = str(problem)
    return ImagesCheck(files=tuple(checks), warnings=warnings, error=error)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"there is no {str(path)!r}: give the path of an image, a folder or a COCO JSON")
    if path.suffix.lower() == ".json":
        return _coco_images(path)
    if path.is_file():
        return [path]
    found = [file for folder in _folders(path) for file in image_files(folder)]
    unknown = [
        file for file in sorted(path.iterdir()) if file.is_file() and file.suffix.lower() in (".bmp", ".gif", ".webp")
    ]
    return found + [file for file in unknown if file not in found]


def _folders(path: Path) -> Iterator[Path]:
    yield path
    yield from (folder for folder in sorted(path.rglob("*")) if folder.is_dir() and not folder.name.startswith("."))


def _coco_images(path: Path) -> list[Path]:
    from quatrain.data.coco import coco_images

    found = coco_images(path)
    return [found.folder / name for name in found.names]


def _check_file(file: Path, root: Path, budget: int) -> FileCheck:
    name = str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
    try:
        infos = inspect(file)
        kind = reader_of(file).name
    except UnreadableError as error:
        return FileCheck(path=name, kind="unknown", error=str(error))
    images: list[ImageCheck] = []
    notes: list[str] = []
    for info in infos:
        image = ImageCheck(info=info)
        notes += info.warnings
        if _bytes(info) <= budget and not info.left_out:
            budget -= _bytes(info)
            try:
                image = _with_values(file, info)
            except UnreadableError as error:
                return FileCheck(path=name, kind=kind, error=str(error))
        images.append(image)
    return FileCheck(path=name, kind=kind, images=tuple(images), warnings=tuple(dict.fromkeys(notes)))


def _with_values(file: Path, info: ImageInfo) -> ImageCheck:
    pixels = read(file, info.key).pixels
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not finite.size:
        raise UnreadableError("it holds no finite number")
    return ImageCheck(info=info, smallest=float(finite.min()), largest=float(finite.max()))


def _bytes(info: ImageInfo) -> int:
    return int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize


def _image_json(image: ImageCheck) -> dict[str, Any]:
    info, size = image.info, image.info.pixel_size
    return {
        "name": info.label,
        "shape": [info.frames, *info.shape] if info.frames > 1 else list(info.shape),
        "dtype": info.dtype,
        "min": image.smallest,
        "max": image.largest,
        "pixel_size_nm": None if size is None else [size.y_nm, size.x_nm],
        "pixel_size_source": info.no_pixel_size if size is None else size.source,
    }
