"""The layout of SA-1B: for every image a JSON of the same name with its masks as run lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quatrain.data.decode import read_pixels
from quatrain.data.folder import image_files
from quatrain.data.rle import Annotation, masks, read_annotations
from quatrain.data.sample import Sample, Skipped, nothing_left, to_rgb8
from quatrain.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sa1bImages:
    """Images with a JSON of masks each; `sa1b_images` finds them."""

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    images: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image `index` and the masks of its largest objects; objects may overlap."""
        image = self.images[index]
        try:
            image_HWC = to_rgb8(read_pixels(image))
        except ValueError as error:
            raise UsageError(f"{str(image)!r} cannot be used: {error}") from error
        truth = image.with_suffix(".json")
        try:
            masks_NHW = masks(_annotations(truth), image_HWC.shape[0], image_HWC.shape[1])
        except ValueError as error:
            raise UsageError(f"{str(truth)!r} cannot be used: {error}") from error
        return Sample(name=self.names[index], image_HWC=image_HWC, masks_NHW=masks_NHW)


def sa1b_images(folder: Path) -> Sa1bImages:
    """Pair the images of a folder with the JSON files of the same names.

    Only names are looked at: a full part of SA-1B has 11,000 images. One without the other is skipped; raise
    UsageError when nothing is left.
    """
    truths = {file.stem: file for file in folder.glob("*.json") if not file.name.startswith(".")}
    found: dict[str, Path] = {}
    skipped = []
    for image in image_files(folder):
        if image.stem in found:
            skipped.append(Skipped(name=image.name, reason="another image of the folder has the same name"))
        elif image.stem in truths:
            found[image.stem] = image
        else:
            skipped.append(Skipped(name=image.name, reason=f"there is no {image.stem}.json"))
    skipped += [
        Skipped(name=truths[stem].name, reason="masks without their image") for stem in sorted(truths.keys() - found)
    ]
    if not found:
        raise nothing_left(str(folder), skipped)
    return Sa1bImages(names=tuple(found), skipped=tuple(skipped), images=tuple(found.values()))


def _annotations(truth: Path) -> list[Annotation]:
    found = read_annotations(truth).get("annotations")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("it has no list 'annotations' of masks")
    return found
