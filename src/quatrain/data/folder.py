"""A folder of images with a label map beside each: NAME.png and NAME_truth.png."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quatrain.data.pixels import IMAGE_SUFFIXES, UnreadableError, image_hw, read_labels, read_pixels
from quatrain.data.sample import Sample, Skipped, nothing_left, objects, to_rgb8
from quatrain.errors import UsageError

TRUTH = "_truth"
"""What the name of a truth adds to that of its image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderImages:
    """Images whose truth is a label map in a file of its own; `folder_images` finds them."""

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    images: tuple[Path, ...]
    truths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image and truth `index`; every connected part of a label or colour is an object."""
        image, truth = self.images[index], self.truths[index]
        try:
            image_HWC = to_rgb8(read_pixels(image))
        except ValueError as error:
            raise UsageError(f"{str(image)!r} cannot be used: {error}") from error
        try:
            labels_HW = read_labels(truth)
        except UnreadableError as error:
            raise UsageError(f"{str(truth)!r} cannot be used: {error}") from error
        return Sample(name=self.names[index], image_HWC=image_HWC, masks_NHW=objects(labels_HW))


def folder_images(folder: Path) -> FolderImages:
    """Pair the images of a folder (png, tif, tiff, jpg, jpeg, bmp) with their truths (the same, but no jpg).

    Images without truth, files that are cut off or no images, and truths of another size are skipped. Raise UsageError
    when nothing is left.
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
    """Return the image files that lie in a folder itself, sorted by name, hidden ones left out."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def is_truth(file: Path) -> bool:
    """Tell whether a file is a label map by its name; JPEG blurs labels and is never one."""
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
    if image_size != truth_size:
        raise UnreadableError(f"it has {_size(image_size)} pixels, its truth {truth.name} has {_size(truth_size)}")
    return truth


def _alone(truths: dict[str, Path], files: list[Path]) -> list[Skipped]:
    images = {file.stem + TRUTH for file in files}
    return [
        Skipped(name=truth.name, reason="a truth without its image")
        for stem, truth in truths.items()
        if stem not in images
    ]


def _size(hw: tuple[int, int]) -> str:
    return f"{hw[1]} x {hw[0]}"
