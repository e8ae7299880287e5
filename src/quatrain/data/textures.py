"""Textures of the synthetic materials, by name, with zero mean and about unit deviation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[np.float32]
Texture = Callable[[np.random.Generator, int], Field]


def smooth_noise(rng: np.random.Generator, size_px: int, scale_px: float) -> Field:
    """Return Gaussian noise whose features are about `scale_px` wide, zero mean, unit deviation, (size, size)."""
    coarse = max(4, round(size_px / scale_px) + 3)
    small = Image.fromarray(rng.standard_normal((coarse, coarse)).astype(np.float32))
    return _standard(np.asarray(small.resize((size_px, size_px), Image.Resampling.BICUBIC), dtype=np.float32))


def positions(size_px: int) -> tuple[Field, Field]:
    """Return the row and the column of every pixel, each (size, size)."""
    rows, columns = np.mgrid[:size_px, :size_px].astype(np.float32)
    return rows, columns


def flat(_rng: np.random.Generator, size_px: int) -> Field:
    """A featureless material: an amorphous metal, resin, vacuum."""
    return np.zeros((size_px, size_px), np.float32)


def amorphous(rng: np.random.Generator, size_px: int) -> Field:
    """Fine random grain, as in carbon films and glasses."""
    white = rng.standard_normal((size_px, size_px)).astype(np.float32)
    return _standard(ndimage.gaussian_filter(white, rng.uniform(0.8, 1.8)))


def blotches(rng: np.random.Generator, size_px: int) -> Field:
    """Coarse clouds of density, as in polymers."""
    return smooth_noise(rng, size_px, rng.uniform(8, 16))


def lattice(rng: np.random.Generator, size_px: int) -> Field:
    """Atomic columns: bright spots on a two-dimensional lattice of any angle and aspect."""
    first, second = _waves(rng, size_px, rng.uniform(6, 12), rng.uniform(60, 120))
    return _standard(np.exp(1.2 * (np.cos(first) + np.cos(second))))


def fringes(rng: np.random.Generator, size_px: int) -> Field:
    """Parallel lattice planes."""
    wave, _ = _waves(rng, size_px, rng.uniform(5, 14), 90)
    return _standard(np.cos(wave + 0.6 * smooth_noise(rng, size_px, 60)))


def fibres(rng: np.random.Generator, size_px: int) -> Field:
    """Long thin strands in one direction."""
    white = rng.standard_normal((size_px, size_px)).astype(np.float32)
    along = ndimage.gaussian_filter(white, (0.8, 9))
    turned = ndimage.rotate(np.tile(along, (2, 2)), rng.uniform(0, 180), reshape=False, order=1, mode="wrap")
    start = size_px // 2
    return _standard(turned[start : start + size_px, start : start + size_px])


def foam(rng: np.random.Generator, size_px: int) -> Field:
    """A network of thin bright walls."""
    ridges = 1 - np.abs(smooth_noise(rng, size_px, rng.uniform(9, 15)))
    return _standard(np.clip(ridges, 0.3, None) ** 3)


def polycrystal(rng: np.random.Generator, size_px: int) -> Field:
    """Small facets, each of one grey."""
    first, second = (smooth_noise(rng, size_px, rng.uniform(8, 14)) for _ in range(2))
    facets = (np.floor(2 * first) * 5 + np.floor(2 * second) * 3) % 7
    return _standard(facets.astype(np.float32))


def weave(rng: np.random.Generator, size_px: int) -> Field:
    """A checkered superlattice of two wave trains that take turns."""
    first, second = _waves(rng, size_px, rng.uniform(5, 9), 90)
    turn = np.sign(np.sin(first / 4) * np.sin(second / 4))
    return _standard(np.where(turn > 0, np.cos(first), np.cos(second)))


def particles(rng: np.random.Generator, size_px: int) -> Field:
    """Round bright specks strewn at random."""
    count = int(size_px**2 * rng.uniform(0.006, 0.014))
    specks = np.zeros((size_px, size_px), np.float32)
    specks[rng.integers(0, size_px, count), rng.integers(0, size_px, count)] = 1
    return _standard(ndimage.gaussian_filter(specks, rng.uniform(1.4, 2.4)))


TEXTURES: dict[str, Texture] = {
    texture.__name__: texture
    for texture in (flat, amorphous, blotches, lattice, fringes, fibres, foam, polycrystal, weave, particles)
}
SEEN = ("flat", "amorphous", "blotches", "lattice", "fringes")
"""The materials of the images on which vit_mini was pretrained."""
UNSEEN = ("fibres", "foam", "polycrystal", "weave", "particles")
"""Materials that pretraining never saw: the default target of the nas workflow."""


def _waves(rng: np.random.Generator, size_px: int, period_px: float, degrees: float) -> tuple[Field, Field]:
    rows, columns = positions(size_px)
    angle = rng.uniform(0, np.pi)
    other = angle + np.deg2rad(degrees)
    periods = period_px, period_px * rng.uniform(0.8, 1.25)
    first, second = (
        2 * np.pi / period * (np.cos(a) * columns + np.sin(a) * rows)
        for period, a in zip(periods, (angle, other), strict=True)
    )
    return np.float32(first), np.float32(second)


def _standard(field: Field) -> Field:
    centred = field - field.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-6), dtype=np.float32)
