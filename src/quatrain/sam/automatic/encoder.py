"""SAM's image encoder for inference: attention in cache-sized blocks, and bfloat16 on request.

S pixels per side, H W patches, C channels; within a head T = H W tokens, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.sam.attention import attend
from quatrain.sam.official import ImageEncoderViT, get_rel_pos

Precision = Literal["fp32", "bf16"]
_CACHED = 2**18
"""Attention scores computed at a time; they fit into the processor's cache."""
_Linear = Callable[[Tensor, nn.Linear], Tensor]


def encode(encoder: nn.Module, image_13SS: Tensor, precision: Precision = "fp32") -> Tensor:
    """Return the embedding of one normalised image, float32 (1, channels, H, W).

    With "bf16" the products with weights run in bfloat16; attention, normalisation and sums run in float32. An encoder
    other than segment_anything's with relative positions runs unchanged.
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
    qkv_1HWC = linear(block.norm1(x_1HWC), block.attn.qkv).float()
    if block.window_size or x_1HWC.device.type != "cpu":
        attended_1HWC = attend(qkv_1HWC, block.attn, block.window_size)
    else:
        attended_1HWC = attend_globally(qkv_1HWC, block.attn)
    x_1HWC = x_1HWC + linear(attended_1HWC, block.attn.proj)
    hidden = block.mlp.act(linear(block.norm2(x_1HWC), block.mlp.lin1))
    return x_1HWC + linear(hidden, block.mlp.lin2)


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x, layer.weight, layer.bias)


def _linear_bf16(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())


def attend_globally(qkv_1HWC: Tensor, attention: Any) -> Tensor:
    """Return global attention before the output projection, (1, H, W, C), on the CPU and without gradients.

    The result is that of `attend` without a window. Some rows of the image are computed at a time, so that the scores
    fit into the cache. Relative positions then cost one addition, not the extra head dimensions of a fused kernel.
    """
    rows, columns = qkv_1HWC.shape[1:3]
    heads = int(attention.num_heads)
    query_HTD, key_HTD, value_HTD = qkv_1HWC.view(rows * columns, 3, heads, -1).permute(1, 2, 0, 3).contiguous()
    by_row_HT, by_column_HT = _relative_scores(query_HTD.unflatten(1, (rows, columns)), attention)
    query_HTD.mul_(query_HTD.shape[2] ** -0.5)
    out_THD = torch.empty_like(query_HTD.transpose(0, 1), memory_format=torch.contiguous_format)
    step = max(1, _CACHED // (rows * columns * columns)) * columns
    for head in range(heads):
        for first in range(0, rows * columns, step):
            some = slice(first, first + step)
            score = (by_row_HT[head, some, :, None] + by_column_HT[head, some, None, :]).flatten(1)
            score.addmm_(query_HTD[head, some], key_HTD[head].T)
            out_THD[some, head] = score.softmax(dim=1) @ value_HTD[head]
    return out_THD.view(1, rows, columns, -1)


def _relative_scores(query_HhwD: Tensor, attention: Any) -> tuple[Tensor, Tensor]:
    """Return the relative-position bias of the scores, by row (heads, T, H) and by column (heads, T, W)."""
    rows, columns = query_HhwD.shape[1:3]
    row_hkD = get_rel_pos(rows, rows, attention.rel_pos_h)
    column_wkD = get_rel_pos(columns, columns, attention.rel_pos_w)
    by_row = query_HhwD @ row_hkD.mT
    by_column = (query_HhwD.transpose(1, 2) @ column_wkD.mT).transpose(1, 2)
    return by_row.flatten(1, 2), by_column.flatten(1, 2)
