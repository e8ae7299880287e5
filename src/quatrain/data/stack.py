"""Stacks of micrographs: a file of many frames and a file of labels beside it, one sample per frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quatrain.data.decode import UnreadableError, reader_of, stack_shape, suffixes
from quatrain.data.folder import image_files, read_pair
from quatrain.data.sample import Sample, Skipped, nothing_left

TRUTHS = ("_truth", "_groundtruth", "_labels")
"""Suffixes of the name of a stack of labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StackImages:
    """The slices of stacks, named STACK[z] from z = 0; `stack_images` finds them."""

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    slices: tuple[tuple[Path, Path, int], ...]
    """The stack, the stack of its labels, and the frame."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode one slice; every connected part of a label is an object, and 0 and 255 are labels too."""
        image, truth, page = self.slices[index]
        return read_pair(self.names[index], image, truth, page)


def stack_images(source: Path) -> StackImages:
    """List the slices of one stack (the path of a file) or of every stack of a folder.

    NAME.tif belongs to NAME_truth.tif, NAME_groundtruth.tif or NAME_labels.tif, of any format, with the same number of
    frames of the same size. Stacks without such labels, and damaged files, are skipped. Raise UsageError when nothing
    is left.
    """
    slices: dict[str, tuple[Path, Path, int]] = {}
    skipped = []
    for image in [source] if source.is_file() else _stacks(source):
        try:
            truth, pages = _labels_of(image, slices)
        except UnreadableError as reason:
            skipped.append(Skipped(name=image.name, reason=str(reason)))
            continue
        slices |= {f"{image.stem}[{z}]": (image, truth, z) for z in range(pages)}
    if not slices:
        raise nothing_left(str(source), skipped)
    return StackImages(names=tuple(slices), skipped=tuple(skipped), slices=tuple(slices.values()))


def holds_stacks(folder: Path) -> bool:
    """Return whether a folder holds a stack with labels beside it."""
    return any(_is_stack(file) or _is_stack(truth) for file in _stacks(folder) for truth in _beside(file))


def _stacks(folder: Path) -> list[Path]:
    return [file for file in image_files(folder) if not file.stem.endswith(TRUTHS)]


def _beside(image: Path) -> list[Path]:
    """Return the files of labels of a stack, of its own format first."""
    ordered = dict.fromkeys((image.suffix, *suffixes()))
    names = (image.with_name(image.stem + truth + suffix) for truth in TRUTHS for suffix in ordered)
    return [name for name in names if name.is_file()]


def _is_stack(file: Path) -> bool:
    try:
        return reader_of(file).stacks and stack_shape(file)[0] > 1
    except UnreadableError:
        return False


def _labels_of(image: Path, slices: dict[str, tuple[Path, Path, int]]) -> tuple[Path, int]:
    """Return the file of labels of a stack and the number of its frames."""
    if f"{image.stem}[0]" in slices:
        raise UnreadableError("another stack of the folder has the same name")
    truths = _beside(image)
    if not truths:
        raise UnreadableError(f"there is no {' or '.join(image.stem + truth + '.tif' for truth in TRUTHS)}")
    shape = stack_shape(image)
    try:
        truth_shape = stack_shape(truths[0])
    except UnreadableError as error:
        raise UnreadableError(f"its labels {truths[0].name}: {error}") from error
    if shape != truth_shape:
        raise UnreadableError(f"it has {_size(shape)} pixels, its labels {truths[0].name} have {_size(truth_shape)}")
    return truths[0], shape[0]


def _size(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
