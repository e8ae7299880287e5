"""Extraction of a sub-network as a stand-alone Sam: sliced, saved with its architecture, loaded as a stock Sam."""

from __future__ import annotations

import os
from dataclasses import asdict

import torch

from quatrain import checkpoint
from quatrain.sam.build import FORMAT, build, plain_encoder
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Subnet


def slice_weights(encoder: ElasticEncoder, subnet: Subnet) -> dict[str, torch.Tensor]:
    """Return the state dict of the sub-network as a plain encoder: copies, blocks renumbered, MLPs cut."""
    encoder.check(subnet)
    new_index = {block: index for index, block in enumerate(subnet.kept)}
    sliced = {}
    for name, value in encoder.state_dict().items():
        if not name.startswith("blocks."):
            sliced[name] = value.clone()
            continue
        _, block, rest = name.split(".", 2)
        if int(block) in new_index:
            sliced[f"blocks.{new_index[int(block)]}.{rest}"] = _cut(rest, value, subnet.widths[int(block)]).clone()
    return sliced


def _cut(name: str, value: torch.Tensor, width: int) -> torch.Tensor:
    """Cut a parameter of an MLP to its first `width` hidden channels; return others unchanged."""
    if name.startswith("mlp.lin1"):
        return value[:width]
    return value[:, :width] if name == "mlp.lin2.weight" else value


def extract(sam: Sam, encoder: ElasticEncoder, subnet: Subnet) -> Sam:
    """Return the sub-network as a stock Sam with weights of its own, in evaluation mode."""
    small = build(encoder.shape, seed=0)
    small.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
    small.mask_decoder.load_state_dict(sam.mask_decoder.state_dict())
    small.image_encoder = plain_encoder(encoder.shape, subnet.widths)
    small.image_encoder.load_state_dict(slice_weights(encoder, subnet))
    return small.eval()


def save(path: str | os.PathLike[str], sam: Sam, shape: SamShape, subnet: Subnet) -> None:
    """Write an extracted Sam with its architecture, atomically; `load_sam` reads it."""
    payload = {
        "format": FORMAT,
        "shape": asdict(shape),
        "widths": list(subnet.widths),
        "model": {name: value.cpu() for name, value in sam.state_dict().items()},
    }
    checkpoint.save(path, payload)
