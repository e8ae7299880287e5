"""The layout of SA-1B: for every image a JSON of the same name with its masks as run lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quatrain.data.annotations import annotations_of, check_size, json_hw, masks, read_json
from quatrain.data.decode import read_pixels
from quatrain.data.folder import image_files
from quatrain.data.sample import Sample, Skipped, nothing_left, to_rgb8
from quatrain.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sa1bImages:
    """Images with a JSON of masks each; `sa1b_images` finds them."""

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    images: tuple[Path, ...]
    truths: tuple[Path, ...]
    """The JSON of each image: an object with the list `annotations`, or the bare list that amg.py writes."""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        """Decode image `index` and the masks of its largest objects; objects may overlap."""
        image = self.images[index]
        try:
            image_HWC = to_rgb8(read_pixels(image))
        except ValueError as error:
            raise UsageError(f"{str(image)!r} cannot be used: {error}") from error
        truth, (height, width) = self.truths[index], image_HWC.shape[:2]
        try:
            content = read_json(truth)
            check_size(json_hw(content.get("image") if isinstance(content, dict) else None), (height, width))
            masks_NHW, skipped = masks(annotations_of(content), height, width, self.names[index])
        except ValueError as error:
            raise UsageError(f"{str(truth)!r} cannot be used: {error}") from error
        return Sample(name=self.names[index], image_HWC=image_HWC, masks_NHW=masks_NHW, skipped=skipped)


def sa1b_images(folder: Path) -> Sa1bImages:
    """Pair the images of a folder with the JSON files of the same names.

    No file is opened: a full part of SA-1B has 11,000 images. One without the other is skipped; raise UsageError
    when nothing is left.
    """
    truths = {
        file.stem: file for file in folder.iterdir() if file.suffix.lower() == ".json" and not file.name.startswith(".")
    }
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
    return Sa1bImages(
        names=tuple(found),
        skipped=tuple(skipped),
        images=tuple(found.values()),
        truths=tuple(truths[stem] for stem in found),
    )
