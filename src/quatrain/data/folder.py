"""Images of a folder, each with a label map beside it: NAME.png and NAME_truth.png."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quatrain.data.decode import UnreadableError, image_hw, read_labels, read_pixels, suffixes
from quatrain.data.sample import Sample, Skipped, nothing_left, objects, to_rgb8
from quatrain.errors import UsageError

TRUTH = "_truth"
"""Suffix of the name of a label map: NAME_truth.png belongs to NAME.png."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderImages:
    """Images, each with a label map in a file of its own; `folder_images` finds them."""

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    images: tuple[Path, ...]
    truths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image and truth `index`; every connected part of one label or colour is an object."""
        return read_pair(self.names[index], self.images[index], self.truths[index])


def read_pair(name: str, image: Path, truth: Path, page: int = 0) -> Sample:
    """Decode one frame of an image and of its label map; raise UsageError with the name of the damaged file."""
    where = f"frame {page} of " if page else ""
    try:
        image_HWC = to_rgb8(read_pixels(image, page))
    except ValueError as error:
        raise UsageError(f"{where}{str(image)!r} cannot be used: {error}") from error
    try:
        labels_HW = read_labels(truth, page)
        _check_sizes(image_HWC.shape[:2], labels_HW.shape, truth)
    except UnreadableError as error:
        raise UsageError(f"{where}{str(truth)!r} cannot be used: {error}") from error
    return Sample(name=name, image_HWC=image_HWC, masks_NHW=objects(labels_HW))


def folder_images(folder: Path) -> FolderImages:
    """Pair the images of a folder, of every known format, with their truths (the same formats, but no JPEG).

    Images without truth, damaged files and truths of another size are skipped. Raise UsageError when nothing is left.
    """
    files = image_files(folder)
    truths = {file.stem: file for file in files if is_truth(file)}
    pairs: dict[str, tuple[Path, Path]] = {}
    skipped = []
    for file in files:
        if is_truth(file):
            continue
        try:
            pairs[file.stem] = file, _truth_of(file, truths, pairs)
        except UnreadableError as reason:
            skipped.append(Skipped(name=file.name, reason=str(reason)))
    skipped += _alone(truths, files)
    if not pairs:
        raise nothing_left(str(folder), skipped)
    images, maps = zip(*pairs.values(), strict=True)
    return FolderImages(names=tuple(pairs), skipped=tuple(skipped), images=images, truths=maps)


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, not of its subfolders, sorted by name; hidden files are left out."""
    known = suffixes()
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in known and not file.name.startswith(".") and file.is_file()
    )


def is_truth(file: Path) -> bool:
    """Return whether a file is a label map by its name; JPEG blurs labels and is never one."""
    return file.stem.endswith(TRUTH) and file.suffix.lower() not in (".jpg", ".jpeg")


def _truth_of(image: Path, truths: dict[str, Path], taken: Iterable[str]) -> Path:
    if image.stem in taken:
        raise UnreadableError("another image of the folder has the same name")
    truth = truths.get(image.stem + TRUTH)
    if truth is None:
        raise UnreadableError(f"there is no {image.stem}{TRUTH}.png")
    image_size = image_hw(image)
    try:
        truth_size = image_hw(truth)
    except UnreadableError as error:
        raise UnreadableError(f"its truth {truth.name}: {error}") from error
    _check_sizes(image_size, truth_size, truth)
    return truth


def _alone(truths: dict[str, Path], files: list[Path]) -> list[Skipped]:
    images = {file.stem + TRUTH for file in files}
    return [
        Skipped(name=truth.name, reason="a truth without its image")
        for stem, truth in truths.items()
        if stem not in images
    ]


def _check_sizes(image_hw: tuple[int, ...], truth_hw: tuple[int, ...], truth: Path) -> None:
    if image_hw != truth_hw:
        sizes = [f"{hw[1]} x {hw[0]}" for hw in (image_hw, truth_hw)]
        raise UnreadableError(f"the image has {sizes[0]} pixels, its truth {truth.name} has {sizes[1]}")
