"""Open images with truth from one word or path: synthetic ones, or files in any known layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quatrain.data.coco import coco_images
from quatrain.data.decode import readers
from quatrain.data.folder import folder_images, image_files, is_truth
from quatrain.data.sa1b import sa1b_images
from quatrain.data.sample import ImageSet
from quatrain.data.stack import holds_stacks, stack_images
from quatrain.errors import UsageError, unknown

LAYOUTS = {
    "folder": "images NAME.png (of any format) with NAME_truth.png",
    "stack": "stacks NAME.tif (of any format) with NAME_truth.tif (_groundtruth, _labels)",
    "sa1b": "images sa_N.jpg with sa_N.json",
    "coco": "a COCO instance JSON with its images",
}
"""The layouts of files, and which files belong to each."""


def open_images(source: str, *, size_px: int, seed: int, count: int = 64, layout: str | None = None) -> ImageSet:
    """Return the images of "made", "made:seen", "made:unseen", "made:MATERIAL,MATERIAL", or of the files at a path.

    `size_px`, `seed` and `count` are for synthetic images only. The layout of files is detected unless `layout` names
    it (a key of LAYOUTS). Raise UsageError when nothing is at the path, no layout fits, or no image can be used.
    """
    if layout is not None and layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    kind, _, materials = source.partition(":")
    if kind == "made" and layout is None:
        return _synthetic(materials, size_px=size_px, seed=seed, count=count)
    path = Path(source).expanduser()
    if not path.exists():
        raise UsageError(f"there is no {source!r}: give 'made', 'made:unseen', or the path of {_known()}")
    try:
        return _open_files(path, layout or _layout_of(path))
    except OSError as error:
        raise UsageError(f"{source!r} cannot be read: {error.strerror or error}") from error


def _synthetic(materials: str, *, size_px: int, seed: int, count: int) -> ImageSet:
    from quatrain.data.synthetic import SyntheticImages
    from quatrain.data.textures import SEEN, TEXTURES, UNSEEN

    named = tuple(dict.fromkeys(name.strip() for name in materials.split(",")))
    names = {"": SEEN, "seen": SEEN, "unseen": UNSEEN}.get(materials, named)
    for name in names:
        if name not in TEXTURES:
            raise unknown("material", name, (*TEXTURES, "seen", "unseen"))
    if len(names) < 2:
        raise UsageError(f"'made:{materials}' names one material: name two or more, or 'made:seen' or 'made:unseen'")
    if materials == "unseen":  # one specimen, as a user's folder is; only texture distinguishes its materials
        return SyntheticImages(count=count, size_px=size_px, seed=seed, materials=names, alike=1.0, specimen=True)
    return SyntheticImages(count=count, size_px=size_px, seed=seed, materials=names)


def _open_files(path: Path, layout: str) -> ImageSet:
    if layout == "coco":
        return coco_images(_coco_file(path) if path.is_dir() else path)
    if layout == "stack":
        return stack_images(path)
    if not path.is_dir():
        raise UsageError(f"{str(path)!r} is not a folder: the layout {layout!r} is a folder of {LAYOUTS[layout]}")
    openers: dict[str, Callable[[Path], ImageSet]] = {"folder": folder_images, "sa1b": sa1b_images}
    return openers[layout](path)


def _layout_of(path: Path) -> str:
    if path.is_dir():
        return _layout_of_folder(path)
    suffix = path.suffix.lower()
    if suffix != ".json" and not any(reader.stacks and suffix in reader.suffixes for reader in readers()):
        raise UsageError(f"{str(path)!r} fits no known layout: give the path of {_known()}")
    return "coco" if suffix == ".json" else "stack"


def _layout_of_folder(folder: Path) -> str:
    if not any(folder.iterdir()):
        raise UsageError(f"the folder {str(folder)!r} is empty: it must hold {_known()}")
    if holds_stacks(folder):
        return "stack"
    images = image_files(folder)
    if any(is_truth(image) for image in images):
        return "folder"
    if {image.stem for image in images} & {file.stem for file in folder.glob("*.json")}:
        return "sa1b"
    if _json_files(folder):
        return "coco"
    raise UsageError(f"the folder {str(folder)!r} fits no known layout: it must hold {_known()}")


def _coco_file(folder: Path) -> Path:
    """Return the one JSON file of instances in a folder or in its subfolder `annotations`."""
    found = _json_files(folder)
    instances = [file for file in found if file.stem.startswith("instances")] or found
    if len(instances) != 1:
        names = ", ".join(str(file.relative_to(folder)) for file in instances) or "no JSON file"
        raise UsageError(f"the folder {str(folder)!r} holds {names}: give the path of one COCO instance JSON")
    return instances[0]


def _json_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])


def _known() -> str:
    return "; or ".join(LAYOUTS.values())
