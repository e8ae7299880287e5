"""Find and read the images to boost: synthetic ones, one file, or a folder; truths lie beside the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quatrain.data.data_bar import find_data_bar
from quatrain.data.decode import ImageData, ImageInfo, PixelSize, UnreadableError, images, read, read_labels, suffixes
from quatrain.data.folder import TRUTH, is_truth
from quatrain.data.sample import to_rgb8
from quatrain.data.synthetic import SyntheticImages
from quatrain.data.textures import SEEN, TEXTURES, UNSEEN
from quatrain.data.units import parse_pixel_size
from quatrain.errors import UsageError, unknown
from quatrain.micrograph.config import BatchConfig, DataConfig
from quatrain.sam.registry import shape

_LEAST_SIDE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """One image to boost."""

    name: str
    """What its outputs are called, with its folders; no two images of a run have the same."""
    path: str
    """Its file; empty for a synthetic image."""
    frame: int = 0
    """Its number in a stack, or among the synthetic images."""
    key: str = ""
    """Which image of its file it is; empty in a file of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedImage:
    """An image as boosting takes it."""

    image_HWC: NDArray[np.uint8]
    """Red, green, blue, uint8 (H, W, 3), without the data bar."""
    pixel_size: PixelSize | None
    truth_HW: NDArray[np.int64] | None
    """Materials from 1, int64 (H, W); 0 is not scored. None without a truth."""
    no_pixel_size: str = ""
    """Why the pixel size is not known."""
    warnings: tuple[str, ...] = ()
    """What a user should know about the file, such as images of it that are left out."""
    data_bar_rows: int = 0
    """Rows of a data bar that were cut from the bottom of the image."""


def find(data: DataConfig) -> list[InputImage]:
    """List the images of a source: every image of a file, and every frame of a stack. Only headers are read.

    A damaged file is listed too, so that its error appears among the results. Raise UsageError if there are no images.
    """
    if data.data.partition(":")[0] == "made":
        return [InputImage(name=name, path="", frame=index) for index, name in enumerate(synthetic_set(data).names)]
    files, path = _listed(data), Path(data.data).expanduser()
    root = path.parent if path.is_file() else path
    found = [_images_of(file, data.key) for file in files]
    stems = _unique_stems([file.relative_to(root) for file in files], found)
    return [
        InputImage(name=stem + ending, path=str(file.resolve()), frame=frame, key=key)
        for stem, file, images_of in zip(stems, files, found, strict=True)
        for ending, key, frame in images_of
    ]


Ending = tuple[str, str, int]
"""What an image adds to the name of its file, its key and its frame."""


def _images_of(file: Path, key: str) -> list[Ending]:
    try:
        infos = images(file, key)
    except UnreadableError:
        return [("", key, 0)]  # reading it reports the error
    labels = _labels(infos)
    endings: list[Ending] = []
    for info, label in zip(infos, labels, strict=True):
        width = len(str(info.frames - 1))
        frames = [f"-{frame:0{width}d}" for frame in range(info.frames)] if info.frames > 1 else [""]
        endings += [(label + ending, info.key, frame) for frame, ending in enumerate(frames)]
    if len({ending.casefold() for ending, _, _ in endings}) < len(endings):
        return [(f"-{place}", key, frame) for place, (_, key, frame) in enumerate(endings)]
    return endings


def _labels(infos: Sequence[ImageInfo]) -> list[str]:
    """Return what the images of one file add to its name: nothing when there is one, else different words."""
    if len(infos) == 1:
        return [""]
    words = [
        "".join(char if char.isalnum() or char in "._+" else "-" for char in info.label).strip("-") for info in infos
    ]
    taken = Counter(word.casefold() for word in words)
    return [
        f"-{word}" if word and taken[word.casefold()] == 1 else f"-{word}-{place}".replace("--", "-")
        for place, word in enumerate(words)
    ]


def _unique_stems(files: Sequence[Path], found: Sequence[Sequence[Ending]]) -> list[str]:
    """Return a name for each file: without its suffix, unless two images would then have the same name.

    Names that differ only in upper and lower case count as the same: some file systems do not distinguish them.
    """
    levels = [0] * len(files)
    while True:
        stems = [_stem(file, level, place) for place, (file, level) in enumerate(zip(files, levels, strict=True))]
        names = [[(stem + ending).casefold() for ending, _, _ in ones] for stem, ones in zip(stems, found, strict=True)]
        counts = Counter(name for ones in names for name in ones)
        clashing = [place for place, ones in enumerate(names) if any(counts[name] > 1 for name in ones)]
        if not clashing:
            return stems
        stacks = [place for place in clashing if len(names[place]) > 1]
        for place in stacks if 0 < len(stacks) < len(clashing) else clashing:  # a single file keeps its name
            levels[place] += 1


def _stem(file: Path, level: int, place: int) -> str:
    name = file.as_posix()
    return file.with_suffix("").as_posix() if level == 0 else name if level == 1 else f"{name}{'~' * level}{place}"


def check(config: BatchConfig) -> None:
    """Raise UsageError when a file that the settings name does not exist; called before anything runs."""
    masks = config.masks
    if masks.source == "sam":
        sam = shape(masks.model)
        if sam.checkpoint_url is not None and not masks.checkpoint:
            raise UsageError(f"{sam.name} needs --masks.checkpoint PATH: get {sam.checkpoint_url} and pass its path")
    weights = config.merging.resnet18_weights
    named = {"masks.checkpoint": masks.checkpoint, "masks.folder": masks.folder, "merging.resnet18-weights": weights}
    for flag, path in named.items():
        if path and not Path(path).expanduser().exists():
            raise UsageError(f"there is no {path!r}: give --{flag} a path that exists")
    if config.merging.embedder == "sam" and masks.source != "sam":
        raise UsageError(
            "the embedder 'sam' needs masks of SAM: give --masks.source sam, or another --merging.embedder"
        )


def count(data: DataConfig) -> int:
    """Return the number of files of a source without opening any; raise UsageError if there are no files."""
    if data.data.partition(":")[0] == "made":
        return len(find(data))
    return len(_listed(data))


def _listed(data: DataConfig) -> list[Path]:
    path = Path(data.data).expanduser()
    if not path.exists():
        raise UsageError(f"there is no {data.data!r}: give 'made', an image, or a folder of {' '.join(suffixes())}")
    if path.is_file() and path.suffix.lower() not in suffixes():
        raise UsageError(f"{data.data!r} is of no known format: {' '.join(suffixes())}")
    return [path] if path.is_file() else _files(path, data)


def _files(folder: Path, data: DataConfig) -> list[Path]:
    known = suffixes()
    found = sorted(
        file
        for file in folder.glob(data.pattern)
        if file.suffix.lower() in known and not file.name.startswith(".") and not is_truth(file) and file.is_file()
    )
    if not found:
        raise UsageError(
            f"{str(folder)!r} holds no image that matches {data.pattern!r}: "
            f"--pattern '**/*' looks into its folders, known formats are {' '.join(known)}"
        )
    return found


def load(item: InputImage, data: DataConfig) -> LoadedImage:
    """Read one image and its truth; raise UsageError, naming the file, when it cannot be used."""
    if not item.path:
        return load_synthetic(data, item.frame)
    path = Path(item.path)
    try:
        found = read(path, item.key, item.frame)
        _check_content(found)
        bar = found.pixels.shape[0] - _scanned_rows(found, data)
        image_HWC = to_rgb8(found.pixels[: found.pixels.shape[0] - bar])
    except ValueError as error:
        raise UsageError(f"{item.path!r} cannot be used: {error}") from error
    size = parse_pixel_size(data.pixel_size) if data.pixel_size else found.pixel_size
    cut = (f"a data bar of {bar} rows was cut from the bottom",) if bar else ()
    return LoadedImage(
        image_HWC=image_HWC,
        pixel_size=size,
        truth_HW=_truth(path, item.frame, image_HWC.shape[:2], bar),
        no_pixel_size="" if size else found.info.no_pixel_size,
        warnings=(*found.info.warnings, *cut),
        data_bar_rows=bar,
    )


def _check_content(found: ImageData) -> None:
    """Raise UnreadableError when there is nothing to segment."""
    pixels = found.pixels
    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise UnreadableError(f"it has {width} x {height} pixels; the least are {_LEAST_SIDE} x {_LEAST_SIDE}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise UnreadableError("it holds no finite number")
    if pixels.min() == pixels.max():
        raise UnreadableError(f"all its pixels are {pixels.flat[0]}: there is nothing to see")


def _scanned_rows(found: ImageData, data: DataConfig) -> int:
    """Return the rows above the data bar of an SEM: those that the metadata states, or that the bar leaves."""
    height = int(found.pixels.shape[0])
    if data.data_bar == "keep":
        return height
    rows = found.info.scanned_rows
    return height - find_data_bar(found.pixels) if rows is None else rows


def _truth(image: Path, frame: int, hw: tuple[int, ...], bar: int) -> NDArray[np.int64] | None:
    """Return the truth beside an image, for the rows above its data bar; None if no truth exists."""
    beside = (image.with_name(image.stem + TRUTH + suffix) for suffix in suffixes())
    truth = next((path for path in beside if path.is_file() and is_truth(path)), None)
    if truth is None:
        return None
    try:
        labels_HW = read_labels(truth, frame)
    except UnreadableError as error:
        raise UsageError(f"{str(truth)!r} cannot be used: {error}") from error
    if labels_HW.shape == (hw[0] + bar, hw[1]):
        labels_HW = labels_HW[: hw[0]]
    if labels_HW.shape != hw:
        raise UsageError(
            f"{str(truth)!r} has {labels_HW.shape[1]} x {labels_HW.shape[0]} pixels, its image {hw[1]} x {hw[0]}"
        )
    values, rank = np.unique(labels_HW, return_inverse=True)
    dense: NDArray[np.int64] = np.cumsum(values > 0, dtype=np.int64)[rank.reshape(labels_HW.shape)]
    return dense


_SYNTHETIC_SIZE = PixelSize(y_nm=0.5, x_nm=0.5, source="synthetic image")
"""Size of a synthetic pixel, so that the report has sizes in nm to show."""


def synthetic_set(data: DataConfig) -> SyntheticImages:
    """Return the synthetic images that "made", "made:seen", "made:unseen" or "made:MATERIAL,MATERIAL" names."""
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
    """Return synthetic image `index` with its truth."""
    grey_HW, labels_HW = synthetic_set(data).micrograph(index)
    values, rank = np.unique(labels_HW, return_inverse=True)
    truth_HW = rank.reshape(labels_HW.shape).astype(np.int64) + 1 if len(values) else None
    return LoadedImage(
        image_HWC=np.repeat(grey_HW[..., None], 3, axis=2), pixel_size=_SYNTHETIC_SIZE, truth_HW=truth_HW
    )
