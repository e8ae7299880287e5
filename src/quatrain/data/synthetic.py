"""Synthetic micrographs with exact truth: regions of materials, their textures, and the effects of a microscope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from quatrain.data.sample import Sample, Skipped, objects
from quatrain.data.textures import SEEN, TEXTURES, Field, positions, smooth_noise
from quatrain.errors import unknown
from quatrain.seeding import numpy_rng

Labels = NDArray[np.uint8]
Painted = NDArray[np.floating[Any]]
Layout = Callable[[np.random.Generator, int, int], Labels]


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticImages:
    """A set of synthetic micrographs; image i depends on the seed and on i only. It follows the ImageSet protocol."""

    count: int
    seed: int
    size_px: int = 256
    materials: tuple[str, ...] = SEEN
    """Names of the textures to draw from; see quatrain.data.textures."""
    layouts: tuple[str, ...] = ("grains", "bands", "precipitates", "islands")
    alike: float = 0.1
    """Share of the images whose materials are nearly of one grey, so that only texture distinguishes them."""
    specimen: bool = False
    """Whether all images are of one specimen: each material has its grey and its texture, drawn once from the seed."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; it must be at least 1")
        if self.size_px < 32:
            raise ValueError(f"size_px is {self.size_px}; it must be at least 32")
        if not 0 <= self.alike <= 1:
            raise ValueError(f"alike is {self.alike}; it must lie between 0 and 1")
        for name in self.materials:
            if name not in TEXTURES:
                raise unknown("material", name, TEXTURES)
        if len(self.materials) < 2:
            raise ValueError(f"materials are {self.materials}; name at least two")
        if not self.layouts:
            raise ValueError(f"layouts are {self.layouts}; name at least one")
        for name in self.layouts:
            if name not in LAYOUTS:
                raise unknown("layout", name, LAYOUTS)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per image."""
        return tuple(map(self._name, range(self.count)))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Always empty: synthetic images are never damaged."""
        return ()

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        """Return image `index` with its material regions as objects, largest first."""
        image, labels = self.micrograph(index)
        return Sample(
            name=self._name(index),
            image_HWC=np.repeat(image[..., None], 3, axis=2),
            masks_NHW=objects(labels, smallest=0.02),
        )

    def _name(self, index: int) -> str:
        return f"made-{self.seed}-{index:05d}"

    def micrograph(self, index: int) -> tuple[NDArray[np.uint8], Labels]:
        """Return image `index`, uint8 (size, size), and its label map, uint8 (size, size), materials from 1."""
        rng = numpy_rng(self.seed, "made", index)
        count = int(rng.integers(2, min(5, len(self.materials)) + 1))
        labels = LAYOUTS[str(rng.choice(self.layouts))](rng, self.size_px, count)
        chosen = rng.choice(self.materials, count, replace=False)
        names = [str(name) for name in chosen]
        field = _joined(rng, labels, self._painted(rng, names))
        field, labels = _drift(rng, field, labels)
        return _expose(rng, field), labels

    def _painted(self, rng: np.random.Generator, names: list[str]) -> list[Painted]:
        """Return the texture of each material over the whole image."""
        if self.specimen:
            looks = _looks(self.seed, self.size_px, self.materials, self.alike)
            return [_cut(rng, looks[name], self.size_px) for name in names]
        greys = _greys(rng, len(names), self.alike)
        return [_paint(rng, self.size_px, name, grey) for name, grey in zip(names, greys, strict=True)]


def grains(rng: np.random.Generator, size_px: int, count: int) -> Labels:
    """Voronoi cells with bent borders, each of one material."""
    return _cells(rng, size_px, count, int(rng.integers(count, count + 3)))


def mosaic(rng: np.random.Generator, size_px: int, count: int) -> Labels:
    """Many such cells, five to nine of each material, as in a fine-grained composite."""
    return _cells(rng, size_px, count, int(rng.integers(5 * count, 9 * count + 1)))


def _cells(rng: np.random.Generator, size_px: int, count: int, cells: int) -> Labels:
    rows, columns = _bent(rng, size_px)
    seeds = rng.uniform(0, size_px, (cells, 2)).astype(np.float32)
    distance = (rows[..., None] - seeds[:, 0]) ** 2 + (columns[..., None] - seeds[:, 1]) ** 2
    material = np.concatenate([np.arange(count), rng.integers(0, count, cells - count)])
    return np.asarray(material[distance.argmin(axis=-1)] + 1, np.uint8)


def bands(rng: np.random.Generator, size_px: int, count: int) -> Labels:
    """Layers with wavy interfaces, in any direction."""
    rows, columns = _bent(rng, size_px)
    angle = rng.uniform(0, 2 * np.pi)
    depth = np.cos(angle) * columns + np.sin(angle) * rows
    thickness = rng.uniform(0.5, 1.5, count).cumsum()
    low, high = np.quantile(depth, [0.02, 0.98])
    borders = low + (high - low) * thickness[:-1] / thickness[-1]
    return np.asarray(np.searchsorted(borders, depth) + 1, np.uint8)


def precipitates(rng: np.random.Generator, size_px: int, count: int) -> Labels:
    """A matrix with rounded to cuboidal particles of the other materials."""
    labels = np.ones((size_px, size_px), np.uint8)
    rows, columns = _bent(rng, size_px, strength=0.02)
    for number in range(int(rng.integers(2, 6))):
        y, x = rng.uniform(0, size_px, 2)
        radii = size_px * rng.uniform(0.14, 0.28) * np.array([1, rng.uniform(0.6, 1)])
        angle, power = rng.uniform(0, np.pi), rng.uniform(2, 6)
        reach = 1.5 * radii[0] + 0.08 * size_px  # corners of a cuboid, and the bend
        near = tuple(slice(max(0, int(at - reach)), int(at + reach)) for at in (y, x))
        down, right = rows[near] - y, columns[near] - x
        along = np.cos(angle) * right + np.sin(angle) * down
        across = np.cos(angle) * down - np.sin(angle) * right
        inside = np.abs(along / radii[0]) ** power + np.abs(across / radii[1]) ** power < 1
        labels[near][inside] = 2 + number % (count - 1)
    return labels


def islands(rng: np.random.Generator, size_px: int, count: int) -> Labels:
    """Interlocking regions, as after spinodal decomposition."""
    fields = [smooth_noise(rng, size_px, size_px * rng.uniform(0.7, 1.2)) for _ in range(count)]
    return np.asarray(np.argmax(fields, axis=0) + 1, np.uint8)


LAYOUTS: dict[str, Layout] = {layout.__name__: layout for layout in (grains, bands, precipitates, islands, mosaic)}


def _bent(rng: np.random.Generator, size_px: int, strength: float = 0.05) -> tuple[Field, Field]:
    rows, columns = positions(size_px)
    scale = size_px * rng.uniform(0.12, 0.5)
    bend = size_px * rng.uniform(0, strength)
    return rows + bend * smooth_noise(rng, size_px, scale), columns + bend * smooth_noise(rng, size_px, scale)


@lru_cache(maxsize=4)
def _looks(seed: int, size_px: int, materials: tuple[str, ...], alike: float) -> dict[str, Painted]:
    """Return a piece of every material of a specimen, twice as wide as an image."""
    rng = numpy_rng(seed, "specimen")
    greys = _greys(rng, len(materials), alike)
    return {name: _paint(rng, 2 * size_px, name, grey) for name, grey in zip(materials, greys, strict=True)}


def _cut(rng: np.random.Generator, look: Painted, size_px: int) -> Painted:
    """Return a random window of a material."""
    row, column = rng.integers(0, len(look) - size_px + 1, 2)
    return look[row : row + size_px, column : column + size_px]


def _paint(rng: np.random.Generator, size_px: int, name: str, grey: float) -> Painted:
    contrast = rng.uniform(0.04, 0.12)
    return grey + contrast * TEXTURES[name](rng, size_px)


def _joined(rng: np.random.Generator, labels: Labels, painted: list[Painted]) -> Field:
    """Return the image of all materials in their regions, some interfaces with a seam."""
    field = np.select([labels == number for number in range(1, len(painted) + 1)], painted)
    field = ndimage.gaussian_filter(field, rng.uniform(0.3, 0.9))
    if rng.random() < 0.3:
        border = ndimage.morphological_gradient(labels, size=3) > 0
        seam = ndimage.gaussian_filter(border.astype(np.float32), rng.uniform(0.6, 1.5))
        field = field + rng.choice([-0.5, 0.4]) * seam
    return np.asarray(field, np.float32)


def _greys(rng: np.random.Generator, count: int, alike: float) -> NDArray[np.float64]:
    """Draw mean greys; in the share `alike` of the images they are nearly the same."""
    spread = rng.uniform(0.04, 0.12) if rng.random() < alike else rng.uniform(0.3, 0.65)
    steps = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / max(1, count - 1) - 0.5
    return rng.permutation(rng.uniform(0.42, 0.58) + spread * steps)


def _drift(rng: np.random.Generator, field: Field, labels: Labels) -> tuple[Field, Labels]:
    """Shift scan lines as a drifting stage does; the truth moves with the image."""
    if rng.random() < 0.6:
        return field, labels
    size_px = len(field)
    lines = np.arange(size_px)
    wave = rng.uniform(0.5, 3) * np.sin(2 * np.pi * lines / (size_px * rng.uniform(0.3, 1)) + rng.uniform(0, 6))
    shift = np.rint(wave + rng.uniform(-0.04, 0.04) * lines).astype(int)
    columns = np.clip(np.arange(size_px)[None] + shift[:, None], 0, size_px - 1)
    return np.take_along_axis(field, columns, axis=1), np.take_along_axis(labels, columns, axis=1)


def _expose(rng: np.random.Generator, field: Field) -> NDArray[np.uint8]:
    """Add a charging gradient and streaks, count electrons (Poisson), add read noise, and quantise to 8 bit."""
    size_px = len(field)
    rows, columns = positions(size_px)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.12)
    charged = field + slope * (np.cos(angle) * columns + np.sin(angle) * rows) / size_px
    if rng.random() < 0.25:
        charged = charged + 0.03 * ndimage.gaussian_filter1d(rng.standard_normal((size_px, 1)), 1.5, axis=0)
    dose = np.float32(rng.uniform(200, 1000))
    counted = rng.poisson(dose * np.clip(charged, 0.01, None)).astype(np.float32) / dose
    noisy = counted + rng.uniform(0.005, 0.02) * rng.standard_normal(field.shape, np.float32)
    low, high = np.percentile(noisy, [0.5, 99.5])
    return np.asarray(np.clip((noisy - low) / max(high - low, 1e-6), 0, 1) * 255, np.uint8)
