"""A Sam so small that a training step takes a blink, and images whose objects it could draw to the pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from quatrain.data.sample import Sample
from quatrain.sam.build import build
from quatrain.sam.registry import SamShape
from quatrain.seeding import numpy_rng
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Space

TINY = SamShape(
    name="tiny",
    image_px=32,
    patch_px=8,
    embed_dim=24,
    depth=4,
    heads=3,
    global_blocks=(1, 3),
    window=3,
    prompt_dim=16,
    decoder_mlp=32,
    decoder_heads=2,
)
SPACE = Space(full=full_subnet(TINY).widths, choices=((24, 48, 96),) * 4, removable=(1, 2), drop_probability=(0.5, 0.5))


def stirred(model, seed=0):
    """Move every parameter off its initial value: biases and norms that start alike would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def elastic(shape=TINY, seed=0):
    """A Sam with an elastic encoder and no weight at its initial value."""
    model = stirred(build(shape, seed), seed)
    model.image_encoder = ElasticEncoder(model.image_encoder, shape)
    return model.eval()


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equal(one, other):
    """Tell whether two states are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@dataclass(frozen=True, kw_only=True)
class Rectangles:
    """An image set of bright rectangles on even pixels; `objects` tells how many each image has."""

    objects: tuple[int, ...] = (2, 1, 3, 2, 4, 1)
    size: tuple[int, int] = (32, 32)
    seed: int = 0
    skipped = ()

    @property
    def names(self):
        return tuple(f"rectangles-{self.seed}-{i}" for i in range(len(self.objects)))

    def __len__(self):
        return len(self.objects)

    def read(self, index):
        rng = numpy_rng(self.seed, "rectangles", index)
        height, width = self.size
        image = rng.integers(0, 100, (height, width, 3))
        masks = np.zeros((self.objects[index], height, width), bool)
        for mask in masks:
            top, left = 2 * rng.integers(0, height // 4), 2 * rng.integers(0, width // 4)
            mask[top : top + 2 * rng.integers(3, 8), left : left + 2 * rng.integers(3, 8)] = True
            image[mask] += rng.integers(30, 150)
        return Sample(name=self.names[index], image_HWC=image.clip(0, 255).astype(np.uint8), masks_NHW=masks)
