"""Instances in COCO's JSON: one file of annotations, polygons or run lengths, for a folder of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quatrain.data.annotations import (
    Annotation,
    check_outline,
    check_size,
    first_reason,
    json_hw,
    label_of,
    masks,
    read_json,
)
from quatrain.data.decode import read_pixels
from quatrain.data.image_paths import locate
from quatrain.data.sample import Sample, Skipped, nothing_left, to_rgb8
from quatrain.errors import UsageError

Key = int | str
"""An id, in the one form in which ids are compared: "7", 7 and 7.0 are equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoImages:
    """Images with instances; `coco_images` finds them."""

    names: tuple[str, ...]
    """Paths of the images, relative to `folder`."""
    skipped: tuple[Skipped, ...]
    source: Path
    folder: Path
    annotations: tuple[tuple[Annotation, ...], ...]
    """The objects of every image, without crowds."""
    sizes: tuple[tuple[int, int] | None, ...]
    """Height and width of every image as the JSON gives them."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image `index` and the masks of its largest objects; objects may overlap."""
        name = self.names[index]
        file = self.folder / name
        try:
            image_HWC = to_rgb8(read_pixels(file))
        except ValueError as error:
            raise UsageError(f"{str(file)!r} cannot be used: {error}") from error
        height, width = image_HWC.shape[:2]
        try:
            check_size(self.sizes[index], (height, width))
            masks_NHW, skipped = masks(self.annotations[index], height, width, name)
        except ValueError as error:
            raise UsageError(f"{str(self.source)!r} does not fit {name!r}: {error}") from error
        return Sample(name=name, image_HWC=image_HWC, masks_NHW=masks_NHW, skipped=skipped)


@dataclass(kw_only=True, slots=True)
class _Entry:
    """An image of the JSON while its annotations are collected."""

    name: str
    hw: tuple[int, int] | None
    objects: dict[int, Annotation] = field(default_factory=dict)
    """By their place in the JSON."""
    crowds: int = 0
    damaged: list[Skipped] = field(default_factory=list)

    def reason(self) -> str:
        """Return why the image has no object."""
        if self.damaged:
            return f"none of its {len(self.damaged)} annotations can be used: {first_reason(self.damaged, self.name)}"
        if self.crowds:
            return f"all its annotations ({self.crowds}) are crowds: set iscrowd to 0 if each is one object"
        return "it has no annotation"


def coco_images(source: Path, folder: Path | None = None) -> CocoImages:
    """List the images of a COCO instance file that have objects and a file.

    Without `folder`, the images are looked for beside the JSON, then in `images` and in the folder that the JSON is
    named after (`val2017` for `instances_val2017.json`), beside it or one level up. Images without a file or without
    an object, and damaged entries, are skipped. Raise UsageError when the JSON is broken or nothing is left.
    """
    images, annotations = _tables(source)
    skipped: list[Skipped] = []
    entries = _entries(images, skipped)
    _collect(source, annotations, entries, skipped)
    listed = {entry.name: entry for entry in entries.values() if entry is not None}
    if not listed:
        raise nothing_left(str(source), skipped)
    folders = [folder] if folder else _image_folders(source)
    located = locate(list(listed), folders)
    if located is None:
        looked, name = ", ".join(repr(str(place)) for place in folders), next(iter(listed))
        raise UsageError(f"the images of {str(source)!r}, such as {name!r}, are in none of {looked}")
    chosen: dict[str, _Entry] = {}
    for name, entry in listed.items():
        if name in located.reasons:
            skipped.append(Skipped(name=name, reason=located.reasons[name]))
        elif not entry.objects:
            skipped.append(Skipped(name=name, reason=entry.reason()))
        else:
            chosen[located.files[name]] = entry
    if not chosen:
        raise nothing_left(str(source), skipped)
    return CocoImages(
        names=tuple(chosen),
        skipped=tuple(skipped),
        source=source,
        folder=located.folder,
        annotations=tuple(tuple(entry.objects.values()) for entry in chosen.values()),
        sizes=tuple(entry.hw for entry in chosen.values()),
    )


def key_of(number: Any) -> Key | None:
    """Return an id in the form in which ids are compared; None when it is not a number or a text."""
    if isinstance(number, float) and math.isfinite(number):
        return int(number) if number.is_integer() else repr(number)
    if isinstance(number, str):
        text = number.strip()
        plain = len(text) < 19 and text.isdecimal() and str(int(text)) == text
        return int(text) if plain else text or None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _tables(source: Path) -> tuple[list[Any], list[Any]]:
    """Return the two lists of a COCO instance file."""
    try:
        content = read_json(source)
    except ValueError as error:
        raise UsageError(f"{str(source)!r} cannot be used: {error}") from error
    images, annotations = (
        (content.get("images"), content.get("annotations")) if isinstance(content, dict) else (None, None)
    )
    if not isinstance(images, list) or not isinstance(annotations, list):
        kind = "a list" if isinstance(content, list) else f"a {type(content).__name__}"
        found = "without them" if isinstance(content, dict) else f"that holds {kind}"
        raise UsageError(f"{str(source)!r} is a file {found}: it needs the lists 'images' and 'annotations' of COCO")
    return images, annotations


def _entries(images: list[Any], skipped: list[Skipped]) -> dict[Key, _Entry | None]:
    """Return the image of each id, None for an id that two images have; a file listed twice is one image."""
    entries: dict[Key, _Entry | None] = {}
    by_name: dict[str, _Entry] = {}
    first: dict[Key, str] = {}
    for index, image in enumerate(images):
        given = image if isinstance(image, Mapping) else {}
        name, key, label = given.get("file_name"), key_of(given.get("id")), f"image entry {index}"
        if not isinstance(name, str) or not name or key is None:
            skipped.append(Skipped(name=label, reason="it has no id or no file_name"))
        elif key in entries:
            skipped.append(Skipped(name=label, reason=f"its id {key} is that of {first[key]!r} too"))
            if first[key] != name and (entry := entries[key]) is not None:  # whose annotations are whose?
                skipped.append(Skipped(name=entry.name, reason=f"its id {key} is that of {name!r} too"))
                entries[key] = None
        else:
            first[key] = name
            entries[key] = entry = by_name.setdefault(name, _Entry(name=name, hw=json_hw(image)))
            if entry.hw != json_hw(image):
                skipped.append(Skipped(name=label, reason=f"it lists {name!r} again, with another size"))
                entries[key] = None
    return entries


def _collect(source: Path, annotations: list[Any], entries: dict[Key, _Entry | None], skipped: list[Skipped]) -> None:
    """Add the annotations that are objects to their images."""
    strangers: Counter[Key] = Counter()
    seen: dict[tuple[str, Key], Any] = {}
    for index, annotation in enumerate(annotations):
        given = annotation if isinstance(annotation, Mapping) else {}
        image_id, own_id = key_of(given.get("image_id")), key_of(given.get("id"))
        entry = entries.get(image_id) if image_id is not None else None
        if image_id is None:
            skipped.append(Skipped(name=label_of(annotation, index), reason="it has no image_id"))
        elif entry is None:
            strangers[image_id] += image_id not in entries
        elif _is_crowd(given.get("iscrowd")):
            entry.crowds += 1
        elif (
            own_id is not None
            and seen.setdefault((entry.name, own_id), annotation) is not annotation
            and (seen[entry.name, own_id].get("segmentation") == given.get("segmentation"))
        ):
            skipped.append(Skipped(name=f"{entry.name}, annotation {own_id}", reason="it is in the JSON twice"))
        else:
            _add(entry, index, dict(given), skipped)
    if alone := +strangers:
        reason = f"{alone.total()} annotations are of images that it does not list, such as id {next(iter(alone))!r}"
        skipped.append(Skipped(name=source.name, reason=reason))
    kept = {entry.name: entry.crowds for entry in entries.values() if entry is not None and entry.objects}
    crowds = sum(kept.values())
    if crowds:
        skipped.append(Skipped(name=source.name, reason=f"{crowds} crowds (iscrowd is 1) are left out"))


def _add(entry: _Entry, index: int, annotation: Annotation, skipped: list[Skipped]) -> None:
    try:
        check_outline(annotation)
    except ValueError as error:
        entry.damaged.append(Skipped(name=f"{entry.name}, {label_of(annotation, index)}", reason=str(error)))
        skipped.append(entry.damaged[-1])
    else:
        entry.objects[index] = annotation


def _is_crowd(value: Any) -> bool:
    return value.strip().lower() in ("1", "true") if isinstance(value, str) else bool(value)


def _image_folders(source: Path) -> list[Path]:
    """Return the folders in which the images of a COCO file may be, the most usual first."""
    split = source.stem.removeprefix("instances_")
    bases = (source.parent, source.parent.parent)
    return [source.parent, *(base / name for name in ("images", split, f"images/{split}") for base in bases)]
