"""A sub-network as a model of its own: sliced out, saved with its architecture, loaded as a stock Sam."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import cattrs
import torch

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.sam import ImageEncoderViT, Sam
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.models import build, image_encoder, load_weights
from quatrain.supernet.shapes import SamShape
from quatrain.supernet.subnet import Subnet

FORMAT = "quatrain-sam-1"
"""What marks a file as an extracted sub-network."""


def plain_encoder(shape: SamShape, subnet: Subnet) -> ImageEncoderViT:
    """Return segment_anything's encoder with the sub-network's depth and widths, random weights."""
    kept = subnet.kept
    encoder = image_encoder(
        shape,
        depth=len(kept),
        global_attn_indexes=[place for place, block in enumerate(kept) if block in shape.global_blocks],
    )
    for place, block in enumerate(kept):
        mlp, width = encoder.blocks[place].mlp, subnet.widths[block]
        mlp.lin1 = torch.nn.Linear(shape.embed_dim, width)
        mlp.lin2 = torch.nn.Linear(width, shape.embed_dim)
    return encoder


def slice_weights(encoder: ElasticEncoder, subnet: Subnet) -> dict[str, torch.Tensor]:
    """Return the state dict of the sub-network as a plain encoder: kept blocks renumbered, MLPs cut, copies."""
    encoder.check(subnet)
    places = {block: place for place, block in enumerate(subnet.kept)}
    sliced = {}
    for name, value in encoder.state_dict().items():
        if not name.startswith("blocks."):
            sliced[name] = value.clone()
            continue
        _, block, rest = name.split(".", 2)
        if int(block) in places:
            sliced[f"blocks.{places[int(block)]}.{rest}"] = _cut(rest, value, subnet.widths[int(block)]).clone()
    return sliced


def _cut(name: str, value: torch.Tensor, width: int) -> torch.Tensor:
    """Cut a parameter of an MLP to its first `width` hidden channels; others stay."""
    if name.startswith("mlp.lin1"):
        return value[:width]
    return value[:, :width] if name == "mlp.lin2.weight" else value


def extract(sam: Sam, encoder: ElasticEncoder, subnet: Subnet) -> Sam:
    """Return the sub-network as a stock Sam with weights of its own, in evaluation mode."""
    alone = build(encoder.shape, seed=0)
    alone.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
    alone.mask_decoder.load_state_dict(sam.mask_decoder.state_dict())
    alone.image_encoder = plain_encoder(encoder.shape, subnet)
    alone.image_encoder.load_state_dict(slice_weights(encoder, subnet))
    return alone.eval()


def save(path: str | os.PathLike[str], sam: Sam, shape: SamShape, subnet: Subnet) -> None:
    """Write an extracted Sam, with the architecture that it takes to load it, atomically."""
    payload = {
        "format": FORMAT,
        "shape": asdict(shape),
        "widths": list(subnet.widths),
        "model": {name: value.cpu() for name, value in sam.state_dict().items()},
    }
    checkpoint.save(path, payload)


def load_sam(path: str | os.PathLike[str]) -> Sam:
    """Return the Sam of an extracted checkpoint, in evaluation mode.

    It is made of segment_anything's own classes: its SamPredictor and SamAutomaticMaskGenerator drive it.

    Raises
    ------
    UsageError
        When the file is missing, unsafe to read, or holds no extracted sub-network.
    """
    payload = checkpoint.load(path)
    if payload.get("format") != FORMAT:
        raise UsageError(f"{os.fspath(path)!r} is no extracted sub-network: its format is not {FORMAT!r}")
    shape, subnet = _architecture(payload, os.fspath(path))
    sam = build(shape, seed=0)
    sam.image_encoder = plain_encoder(shape, subnet)
    weights = payload.get("model")
    if not isinstance(weights, dict):
        raise UsageError(f"{os.fspath(path)!r} holds no weights: its 'model' is a {type(weights).__name__}")
    return load_weights(sam, weights, f"{os.fspath(path)!r}", f"{shape.name} {subnet.key}").eval()


def _architecture(payload: dict[str, Any], path: str) -> tuple[SamShape, Subnet]:
    try:
        shape = cattrs.structure(payload["shape"], SamShape)
        subnet = Subnet(widths=tuple(map(int, payload["widths"])))
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path!r} tells no architecture that can be built: {error}") from error
    if len(subnet.widths) != shape.depth or max(subnet.widths) > shape.hidden:
        raise UsageError(f"{path!r} tells no architecture that can be built: {subnet.key} does not fit {shape.name}")
    return shape, subnet
