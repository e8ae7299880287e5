"""SAM's image encoder for inference: fused attention, and half the precision where that pays.

S pixels of a side, H W patches, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.sam import ImageEncoderViT
from quatrain.supernet.attention import attend

Precision = Literal["fp32", "bf16"]
_Linear = Callable[[Tensor, nn.Linear], Tensor]


def encode(encoder: nn.Module, image_13SS: Tensor, precision: Precision = "fp32") -> Tensor:
    """Return the embedding of one normalised image, float32 (1, channels, H, W).

    In bf16 the products with weights are in bfloat16, and attention, normalisation and sums in float32. An encoder
    that is not segment_anything's with relative positions runs as it is.
    """
    if not isinstance(encoder, ImageEncoderViT) or not _relative(encoder):
        with torch.autocast(image_13SS.device.type, torch.bfloat16, enabled=precision == "bf16"):
            embedding: Tensor = encoder(image_13SS)
        return embedding.float()
    linear = _linear if precision == "fp32" else _linear_bf16
    x_1HWC = encoder.patch_embed(image_13SS).contiguous()
    if encoder.pos_embed is not None:
        x_1HWC = x_1HWC + encoder.pos_embed
    for block in encoder.blocks:
        x_1HWC = _block(block, x_1HWC, linear)
    out: Tensor = encoder.neck(x_1HWC.permute(0, 3, 1, 2))
    return out


def _relative(encoder: ImageEncoderViT) -> bool:
    return all(block.attn.use_rel_pos for block in encoder.blocks)


def _block(block: Any, x_1HWC: Tensor, linear: _Linear) -> Tensor:
    qkv_1HWC = linear(block.norm1(x_1HWC), block.attn.qkv)
    x_1HWC = x_1HWC + linear(attend(qkv_1HWC, block.attn, block.window_size), block.attn.proj)
    hidden = block.mlp.act(linear(block.norm2(x_1HWC), block.mlp.lin1))
    return x_1HWC + linear(hidden, block.mlp.lin2)


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x, layer.weight, layer.bias)


def _linear_bf16(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16()).float()
