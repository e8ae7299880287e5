"""What turns texture crops into numbers: one protocol, and the embedders by name."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quatrain.errors import UsageError
from quatrain.micrograph.settings import MergingConfig
from quatrain.micrograph.texture import Classical

# C crops, S S crop pixels, F features


class Embedder(Protocol):
    """Turns texture crops into feature vectors whose distances k-means can use."""

    name: str

    def embed(self, crops_CSS: NDArray[np.uint8], corner_C2: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features (C, F) of uint8 crops (C, S, S) whose upper left pixels are `corner_C2`."""

    def weights(self, features: int) -> NDArray[np.float64]:
        """Return what each of F features counts once all have unit deviation, (F,)."""


def embedder(config: MergingConfig, features: Any = None) -> Embedder:
    """Return the embedder that `config` names.

    `features` is what the `sam` embedder pools: the image's features as the mask proposer gives them. Raise UsageError
    when an embedder's weights are missing.
    """
    if config.embedder == "classical":
        return Classical()
    if config.embedder == "sam":
        if features is None:
            raise UsageError("the embedder 'sam' needs masks proposed by SAM in the same run: take 'classical'")
        from quatrain.micrograph.networks import SamFeatures

        return SamFeatures(features)
    from quatrain.micrograph.networks import efficientnet_lite0, fenet

    return efficientnet_lite0() if config.embedder == "efficientnet-lite0" else fenet(config.fenet_weights)
