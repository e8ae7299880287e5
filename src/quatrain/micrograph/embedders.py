"""Embedders of texture crops: their protocol, the choice by name, and the classical features."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quatrain.errors import UsageError
from quatrain.micrograph.config import MergingConfig

# C crops, S S crop pixels, F features
Floats = NDArray[np.float64]

_LEVELS = 16
_OFFSETS = tuple((down, right) for far in (1, 3, 7) for down, right in ((0, far), (far, far), (far, 0), (far, -far)))
_RINGS = 12
_CHUNK = 64
_SIZES = (5, 24, 30, 14)
"""Features of each group: intensity, co-occurrence, binary patterns, spectrum."""


class Embedder(Protocol):
    """Computes feature vectors of texture crops, for Euclidean distances."""

    name: str

    def embed(self, crops_CSS: NDArray[np.uint8], corner_C2: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features (C, F) of uint8 crops (C, S, S) whose upper left pixels are `corner_C2`."""

    def weights(self, features: int) -> NDArray[np.float64]:
        """Return the weight of each of F features after scaling to unit deviation, (F,)."""


def embedder(config: MergingConfig, features: Any = None) -> Embedder:
    """Return the embedder of a configuration.

    `features` are the image features (Proposal.features) that the `sam` embedder pools. Raise UsageError if the
    weights of an embedder are missing.
    """
    if config.embedder == "classical":
        return Classical()
    if config.embedder == "sam":
        if features is None:
            raise UsageError("the embedder 'sam' needs --masks.source sam in the same run: use 'classical'")
        from quatrain.micrograph.embedders_torch import SamFeatures

        return SamFeatures(features)
    from quatrain.micrograph.embedders_torch import efficientnet_lite0, resnet18

    return efficientnet_lite0() if config.embedder == "efficientnet-lite0" else resnet18(config.resnet18_weights)


class Classical:
    """Texture features of a crop: grey-level co-occurrence, LBP histograms, spectrum rings, intensity."""

    name = "classical"

    def embed(self, crops_CSS: NDArray[np.uint8], corner_C2: NDArray[np.int64]) -> Floats:  # noqa: ARG002 - part of the protocol
        """Return the features of uint8 crops (C, S, S), float64 (C, 73)."""
        chunks = [_groups(crops_CSS[at : at + _CHUNK]) for at in range(0, len(crops_CSS), _CHUNK)]
        return np.concatenate([np.concatenate(groups, axis=1) for groups in chunks])

    def weights(self, features: int) -> Floats:  # noqa: ARG002 - part of the protocol
        """Return the weight of each standardised feature, so that the four groups have equal weight, (73,)."""
        return np.concatenate([np.full(size, size**-0.5) for size in _SIZES])


def _groups(crops_CSS: NDArray[np.uint8]) -> tuple[Floats, ...]:
    return intensity(crops_CSS), cooccurrence(crops_CSS), binary_patterns(crops_CSS), spectrum(crops_CSS)


def intensity(crops_CSS: NDArray[np.uint8]) -> Floats:
    """Return mean, deviation and the 10th, 50th and 90th percentile of grey, 0 to 1, (C, 5)."""
    flat = crops_CSS.reshape(len(crops_CSS), -1) / 255.0
    return np.column_stack([flat.mean(axis=1), flat.std(axis=1), *np.percentile(flat, (10, 50, 90), axis=1)])


def cooccurrence(crops_CSS: NDArray[np.uint8]) -> Floats:
    """Return contrast, homogeneity, entropy and correlation of pairs 1, 3 and 7 px apart.

    Means and ranges over four directions, (C, 24).
    """
    count, levels_CSS = len(crops_CSS), (crops_CSS >> 4).astype(np.int32)
    tables = np.stack([_pairs(levels_CSS, *offset) for offset in _OFFSETS], axis=1)
    one, other = np.divmod(np.arange(_LEVELS**2), _LEVELS)
    apart = (one - other) ** 2.0
    mean = tables @ (one + other) / 2
    variance = tables @ ((one**2 + other**2) / 2) - mean**2
    figures = [
        np.log1p(tables @ apart),
        tables @ (1 / (1 + apart)),
        -(tables * np.log(np.maximum(tables, 1e-12))).sum(axis=2),
        (tables @ (one * other * 1.0) - mean**2) / np.maximum(variance, 1e-6),
    ]
    by_distance = np.stack(figures, axis=2).reshape(count, -1, 4, len(figures))
    return np.concatenate([by_distance.mean(axis=2), np.ptp(by_distance, axis=2)], axis=2).reshape(count, -1)


def _pairs(levels_CSS: NDArray[np.int32], down: int, right: int) -> Floats:
    """Return the symmetric co-occurrence frequencies of grey levels at an offset, (C, levels squared)."""
    count, height, width = levels_CSS.shape
    one = levels_CSS[:, : height - down, max(0, -right) : width - max(0, right)]
    other = levels_CSS[:, down:, max(0, right) : width + min(0, right)]
    crop = np.arange(count, dtype=np.int32)[:, None, None]
    codes = (crop * _LEVELS + one) * _LEVELS + other
    found = np.bincount(codes.ravel(), minlength=count * _LEVELS**2).reshape(count, _LEVELS, _LEVELS)
    shares: Floats = (found + found.transpose(0, 2, 1)).reshape(count, -1) / max(1, 2 * one[0].size)
    return shares


def binary_patterns(crops_CSS: NDArray[np.uint8]) -> Floats:
    """Return the histograms of rotation-invariant uniform patterns of 8 neighbours at 1, 2 and 4 px, (C, 30)."""
    return np.concatenate([_patterns(crops_CSS, far) for far in (1, 2, 4)], axis=1)


def _patterns(crops_CSS: NDArray[np.uint8], far: int) -> Floats:
    count, height, width = crops_CSS.shape
    centre = crops_CSS[:, far : height - far, far : width - far]
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    code = np.zeros(centre.shape, np.uint8)
    for bit, (down, right) in enumerate(around):
        neighbour = crops_CSS[:, far + down * far :, far + right * far :][:, : centre.shape[1], : centre.shape[2]]
        code |= (neighbour >= centre).astype(np.uint8) << np.uint8(bit)
    kind = _UNIFORM[code].astype(np.int32) + (np.arange(count, dtype=np.int32) * 10)[:, None, None]
    found = np.bincount(kind.ravel(), minlength=10 * count).reshape(count, 10)
    roots: Floats = np.sqrt(found / max(1, centre[0].size))
    return roots


def _uniform_classes() -> NDArray[np.uint8]:
    """Return the class of every 8-bit pattern: its number of set bits if it is uniform, else 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.uint8)


_UNIFORM = _uniform_classes()


def spectrum(crops_CSS: NDArray[np.uint8]) -> Floats:
    """Return log power shares of frequency rings, log total power and log peak-to-mean ratio, (C, rings + 2)."""
    count, side = len(crops_CSS), crops_CSS.shape[1]
    window = np.hanning(side + 2)[1:-1]
    centred = crops_CSS - crops_CSS.mean(axis=(1, 2), keepdims=True)
    transformed = np.fft.rfft2(centred * (window[:, None] * window))
    power = (transformed.real**2 + transformed.imag**2).reshape(count, -1)
    down, right = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.hypot(down, right)
    ring = np.clip((radius / 0.5 * _RINGS).astype(int), 0, _RINGS).ravel()
    sums = power @ (ring[:, None] == np.arange(_RINGS)).astype(float)
    total = sums.sum(axis=1, keepdims=True) + 1e-9
    peaks = power.max(axis=1, keepdims=True) / (power.mean(axis=1, keepdims=True) + 1e-9)
    return np.concatenate([np.log(sums / total + 1e-4), np.log(total + 1), np.log(peaks + 1)], axis=1)
