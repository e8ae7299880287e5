"""Instances in COCO's JSON: one file of annotations, polygons or run lengths, for a folder of images."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quatrain.data.decode import read_pixels
from quatrain.data.rle import Annotation, masks, read_annotations
from quatrain.data.sample import Sample, Skipped, nothing_left, to_rgb8
from quatrain.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoImages:
    """Images with instances; `coco_images` finds them."""

    names: tuple[str, ...]
    """The images' file names, as the JSON gives them."""
    skipped: tuple[Skipped, ...]
    source: Path
    folder: Path
    annotations: tuple[tuple[Annotation, ...], ...]
    """The objects of every image, crowds left out."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image `index` and the masks of its largest objects; objects may overlap."""
        file = self.folder / self.names[index]
        try:
            image_HWC = to_rgb8(read_pixels(file))
        except ValueError as error:
            raise UsageError(f"{str(file)!r} cannot be used: {error}") from error
        try:
            masks_NHW = masks(self.annotations[index], image_HWC.shape[0], image_HWC.shape[1])
        except ValueError as error:
            raise UsageError(f"{str(self.source)!r} does not fit {self.names[index]!r}: {error}") from error
        return Sample(name=self.names[index], image_HWC=image_HWC, masks_NHW=masks_NHW)


def coco_images(source: Path, folder: Path | None = None) -> CocoImages:
    """List the images of a COCO instance file that have objects and a file.

    Without `folder`, the images are looked for beside the JSON, then in `images` and in the folder that the JSON is
    named after (`val2017` for `instances_val2017.json`), beside it or one level up. Images without a file or without
    an object, and damaged entries, are skipped. Raise UsageError when the JSON is broken or nothing is left.
    """
    images, annotations = _tables(source)
    skipped: list[Skipped] = []
    files = _file_names(images, skipped)
    objects = _by_image(annotations, files, skipped)
    folder = folder or _image_folder(source, list(files.values()))
    present = _present(folder, files.values())
    chosen: dict[str, tuple[Annotation, ...]] = {}
    for image_id, name in files.items():
        if name not in present:
            skipped.append(Skipped(name=name, reason=f"there is no such file in {str(folder)!r}"))
        elif image_id not in objects:
            skipped.append(Skipped(name=name, reason="it has no object but crowds"))
        else:
            chosen[name] = tuple(objects[image_id])
    if not chosen:
        raise nothing_left(str(source), skipped)
    return CocoImages(
        names=tuple(chosen), skipped=tuple(skipped), source=source, folder=folder, annotations=tuple(chosen.values())
    )


def _tables(source: Path) -> tuple[list[Any], list[Any]]:
    """Return the two lists of a COCO instance file."""
    try:
        content = read_annotations(source)
    except ValueError as error:
        raise UsageError(f"{str(source)!r} cannot be used: {error}") from error
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UsageError(f"{str(source)!r} is no COCO instance file: it needs the lists 'images' and 'annotations'")
    return images, annotations


def _file_names(images: list[Any], skipped: list[Skipped]) -> dict[int, str]:
    """Return the file name of every image by its id; what is damaged or comes twice goes to `skipped`."""
    files: dict[int, str] = {}
    taken = set()
    for place, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        number = image.get("id") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(number, int):
            skipped.append(Skipped(name=f"image entry {place}", reason="it has no id or no file_name"))
        elif not _stays_inside(name):
            skipped.append(Skipped(name=name, reason="its file name leads out of the folder"))
        elif number in files or name in taken:
            skipped.append(Skipped(name=name, reason="its id or file name comes twice"))
        else:
            files[number] = name
            taken.add(name)
    return files


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _by_image(annotations: list[Any], files: dict[int, str], skipped: list[Skipped]) -> dict[int, list[Annotation]]:
    """Return the annotations of every image that are objects."""
    found: dict[int, list[Annotation]] = {}
    for place, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int):
            skipped.append(Skipped(name=f"annotation entry {place}", reason="it has no image_id"))
        elif annotation["image_id"] in files and not annotation.get("iscrowd"):
            found.setdefault(annotation["image_id"], []).append(annotation)
    return found


def _image_folder(source: Path, names: list[str]) -> Path:
    """Return the place that holds most of a few of the images."""
    split = source.stem.removeprefix("instances_")
    bases = (source.parent, source.parent.parent)
    places = [source.parent, *(base / name for name in ("images", split, f"images/{split}") for base in bases)]
    few = names[:: math.ceil(len(names) / 50) or 1]
    found = [sum((place / name).is_file() for name in few) for place in places]
    if not any(found):
        looked = ", ".join(repr(str(place)) for place in places)
        raise UsageError(f"the images of {str(source)!r}, such as {names[:1]}, are in none of {looked}")
    return places[found.index(max(found))]


def _present(folder: Path, names: Collection[str]) -> set[str]:
    """Return those of the names that are files, by one look into each folder."""
    inside = {str(PurePosixPath(name).parent) for name in names}
    listed = {place: _listing(folder / place) for place in inside}
    return {name for name in names if PurePosixPath(name).name in listed[str(PurePosixPath(name).parent)]}


def _listing(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()
