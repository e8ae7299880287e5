"""Where images come from: made ones, one file, or a folder of them; truths and masks lie beside them by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quatrain.data.decode import UnreadableError, read_labels
from quatrain.data.folder import TRUTH, is_truth
from quatrain.data.micrographs import SUFFIXES, Scale, frames, read
from quatrain.data.sample import to_rgb8
from quatrain.data.synthetic import SyntheticImages
from quatrain.data.textures import SEEN, TEXTURES, UNSEEN
from quatrain.errors import UsageError, unknown
from quatrain.micrograph.config import BatchConfig, DataConfig
from quatrain.sam.registry import shape

_TRUTH_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """One image to boost."""

    name: str
    """What its outputs are called; it may have folders in it."""
    path: str
    """Its file; empty for a made one."""
    frame: int = 0
    """Its number in a stack, or among the made images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedImage:
    """An image as boosting takes it."""

    image_HWC: NDArray[np.uint8]
    scale: Scale | None
    truth_HW: NDArray[np.int64] | None
    """Materials from 1; 0 is not scored. None where no truth is given."""


def find(data: DataConfig) -> list[InputImage]:
    """List the images of a source; stacks become one item a frame. Files are looked into only for their frames.

    A file that is broken stays in the list, so that its outcome is told. Raise UsageError when there is none.
    """
    if data.data.partition(":")[0] == "made":
        from quatrain.micrograph.inputs import synthetic_set

        return [InputImage(name=name, path="", frame=index) for index, name in enumerate(synthetic_set(data).names)]
    files, path = _listed(data), Path(data.data).expanduser()
    names = _names(files, path.parent if path.is_file() else path)
    return [item for name, file in zip(names, files, strict=True) for item in _items(name, file, data.key)]


def check(config: BatchConfig) -> None:
    """Raise UsageError, before anything runs, when a file that the settings name is not there."""
    masks, fenet = config.masks, config.merging.fenet_weights
    if masks.source == "sam":
        sam = shape(masks.model)
        if sam.checkpoint_url is not None and not masks.checkpoint:
            raise UsageError(f"{sam.name} needs --masks.checkpoint PATH: get {sam.checkpoint_url} and pass its path")
    named = {"masks.checkpoint": masks.checkpoint, "masks.folder": masks.folder, "merging.fenet-weights": fenet}
    for flag, path in named.items():
        if path and not Path(path).expanduser().exists():
            raise UsageError(f"there is no {path!r}: give --{flag} the path of what is there")
    if config.merging.embedder == "sam" and masks.source != "sam":
        raise UsageError(
            "the embedder 'sam' needs masks of SAM: give --masks.source sam, or another --merging.embedder"
        )


def count(data: DataConfig) -> int:
    """Return how many files a source has (stacks count once), without opening any; UsageError when it has none."""
    if data.data.partition(":")[0] == "made":
        return len(find(data))
    return len(_listed(data))


def _listed(data: DataConfig) -> list[Path]:
    path = Path(data.data).expanduser()
    if not path.exists():
        raise UsageError(f"there is no {data.data!r}: give 'made', an image, or a folder of {' '.join(SUFFIXES)}")
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{data.data!r} is of no kind known here: {' '.join(SUFFIXES)}")
    return [path] if path.is_file() else _files(path, data)


def _files(folder: Path, data: DataConfig) -> list[Path]:
    found = sorted(
        file
        for file in folder.glob(data.pattern)
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not is_truth(file) and file.is_file()
    )
    if not found:
        raise UsageError(
            f"{str(folder)!r} holds no image that matches {data.pattern!r}: "
            f"--pattern '**/*' looks into its folders, kinds known here are {' '.join(SUFFIXES)}"
        )
    return found


def _names(files: list[Path], root: Path) -> list[str]:
    """Return a name for each file: without its suffix, unless two would then be called the same."""
    plain = [file.relative_to(root).with_suffix("").as_posix() for file in files]
    return [
        name if plain.count(name) == 1 else file.relative_to(root).as_posix()
        for name, file in zip(plain, files, strict=True)
    ]


def _items(name: str, file: Path, key: str) -> list[InputImage]:
    try:
        count = frames(file, key)
    except UnreadableError:
        count = 1  # its own turn tells what is wrong with it
    path = str(file.resolve())
    if count == 1:
        return [InputImage(name=name, path=path)]
    width = len(str(count - 1))
    return [InputImage(name=f"{name}-{frame:0{width}d}", path=path, frame=frame) for frame in range(count)]


def load(item: InputImage, data: DataConfig) -> LoadedImage:
    """Read one image and its truth; raise UsageError, naming the file, when it cannot be used."""
    if not item.path:
        from quatrain.micrograph.inputs import load_synthetic

        return load_synthetic(data, item.frame)
    path = Path(item.path)
    try:
        micrograph = read(path, item.frame, data.key)
        image_HWC = to_rgb8(micrograph.pixels)
    except ValueError as error:
        raise UsageError(f"{item.path!r} cannot be used: {error}") from error
    return LoadedImage(
        image_HWC=image_HWC, scale=micrograph.scale, truth_HW=_truth(path, item.frame, image_HWC.shape[:2])
    )


def _truth(image: Path, frame: int, hw: tuple[int, ...]) -> NDArray[np.int64] | None:
    beside = (image.with_name(image.stem + TRUTH + suffix) for suffix in _TRUTH_SUFFIXES)
    truth = next((path for path in beside if path.is_file()), None)
    if truth is None:
        return None
    try:
        labels_HW = read_labels(truth, frame)
    except UnreadableError as error:
        raise UsageError(f"{str(truth)!r} cannot be used: {error}") from error
    if labels_HW.shape != hw:
        raise UsageError(
            f"{str(truth)!r} has {labels_HW.shape[1]} x {labels_HW.shape[0]} pixels, its image {hw[1]} x {hw[0]}"
        )
    values, rank = np.unique(labels_HW, return_inverse=True)
    dense: NDArray[np.int64] = np.cumsum(values > 0, dtype=np.int64)[rank.reshape(labels_HW.shape)]
    return dense


MADE_NM = 0.5
"""Side of a made pixel, so that sizes in nm have something to show."""


def synthetic_set(data: DataConfig) -> SyntheticImages:
    """Return the set that "made", "made:seen", "made:unseen" or "made:MATERIAL,MATERIAL" names."""
    words = data.data.partition(":")[2]
    named = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    materials = {"": SEEN, "seen": SEEN, "unseen": UNSEEN}.get(words, named)
    for material in materials:
        if material not in TEXTURES:
            raise unknown("material", material, (*TEXTURES, "seen", "unseen"))
    if len(materials) < 2:
        raise UsageError(f"{data.data!r} names one material: name two or more, or 'made:seen' or 'made:unseen'")
    return SyntheticImages(count=data.images, size_px=data.made_px, seed=data.made_seed, materials=materials)


def load_synthetic(data: DataConfig, index: int) -> LoadedImage:
    """Return made image `index` with its truth."""
    grey_HW, labels_HW = synthetic_set(data).micrograph(index)
    values, rank = np.unique(labels_HW, return_inverse=True)
    truth_HW = rank.reshape(labels_HW.shape).astype(np.int64) + 1 if len(values) else None
    return LoadedImage(
        image_HWC=np.repeat(grey_HW[..., None], 3, axis=2), scale=Scale(size=MADE_NM, unit="nm"), truth_HW=truth_HW
    )
