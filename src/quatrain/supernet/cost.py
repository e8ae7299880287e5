"""Parameters and multiply-accumulates of a sub-network's image encoder, counted without torch."""

from __future__ import annotations

import math

from quatrain.sam.registry import SamShape
from quatrain.supernet.space import Subnet


def full_subnet(sam: SamShape) -> Subnet:
    """Return the whole network as a sub-network of itself."""
    return Subnet(widths=(sam.hidden,) * sam.depth)


def encoder_parameters(sam: SamShape, subnet: Subnet) -> int:
    """Return the number of parameters of the image encoder: patches, positions, kept blocks, neck."""
    dim, out = sam.embed_dim, sam.prompt_dim
    patches = dim * 3 * sam.patch_px**2 + dim
    positions = sam.grid**2 * dim
    neck = dim * out + 2 * out + out * out * 9 + 2 * out
    return (
        patches + positions + neck + sum(_block_parameters(sam, block, subnet.widths[block]) for block in subnet.kept)
    )


def _block_parameters(sam: SamShape, block: int, width: int) -> int:
    dim = sam.embed_dim
    norms = 4 * dim
    attention = 3 * dim * (dim + 1) + dim * (dim + 1)
    relative = 2 * (2 * sam.span(block) - 1) * (dim // sam.heads)
    return norms + attention + relative + 2 * dim * width + width + dim


def encoder_macs(sam: SamShape, subnet: Subnet) -> int:
    """Return the multiply-accumulates of the image encoder per image: convolutions, projections, attention.

    Windows are padded as segment_anything pads them; normalisation, softmax and activations are not counted.
    """
    tokens, dim, out = sam.grid**2, sam.embed_dim, sam.prompt_dim
    patches = tokens * 3 * sam.patch_px**2 * dim
    neck = tokens * (dim * out + 9 * out * out)
    return patches + neck + sum(_block_macs(sam, block, subnet.widths[block]) for block in subnet.kept)


def _block_macs(sam: SamShape, block: int, width: int) -> int:
    span, dim = sam.span(block), sam.embed_dim
    windows = math.ceil(sam.grid / span) ** 2
    in_windows = windows * span**2
    projections = in_windows * 4 * dim * dim
    scores = 2 * in_windows * span**2 * dim
    relative = 2 * in_windows * span * dim
    mlp = 2 * sam.grid**2 * dim * width
    return projections + scores + relative + mlp
