"""SAM's prompt encoder and mask decoder over a batch of images at once, with gradients.

`Sam.forward` runs without gradients and one image at a time, so training cannot use it. All prompts of an image share
its embedding, so the part of the decoder's first layer that depends on the embedding alone is computed once per image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from quatrain.sam.official import MaskDecoder, Sam

if TYPE_CHECKING:
    from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer

# B images, P prompts per image, Q = B x P queries grouped by image; M mask tokens (one for a single mask,
# three for an ambiguous prompt), C channels, T tokens of a query, N = h w positions of the image embedding, S pixels
# along a side of the network's input


def normalise(sam: Sam, image_B3SS: Tensor, valid_B2: Tensor) -> Tensor:
    """Return the network's input, float32 (B, 3, S, S), as `Sam.preprocess` makes it.

    `image_B3SS` holds grey values from 0 to 255; `valid_B2` the rows and columns that are image: the rest is padding
    and becomes 0.
    """
    side = image_B3SS.shape[-1]
    line = torch.arange(side, device=image_B3SS.device)
    rows = line[None] < valid_B2[:, :1]
    columns = line[None] < valid_B2[:, 1:]
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    normal: Tensor = (image_B3SS - sam.pixel_mean) / sam.pixel_std * inside
    return normal


def decode(sam: Sam, embedding_BChw: Tensor, point_BP2: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask logits (B, P, M, 4h, 4w) and the predicted IoU (B, P, M) for one foreground point per prompt.

    `point_BP2` holds x, y in pixels of the network's input. M is 4: the single mask, then the three candidates.
    """
    batch, prompts = point_BP2.shape[:2]
    points = point_BP2.reshape(batch * prompts, 1, 2)
    foreground = torch.ones(batch * prompts, 1, dtype=torch.int32, device=points.device)
    sparse, dense = sam.prompt_encoder(points=(points, foreground), boxes=None, masks=None)
    logits, iou = predict(sam.mask_decoder, embedding_BChw, sam.prompt_encoder.get_dense_pe(), sparse, dense[:1])
    return logits.unflatten(0, (batch, prompts)), iou.unflatten(0, (batch, prompts))


def predict(
    decoder: MaskDecoder, embedding_BChw: Tensor, position_1Chw: Tensor, sparse_QTC: Tensor, dense_BChw: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits (Q, M, 4h, 4w) and IoU (Q, M) of Q = B x P prompts grouped by image.

    `dense_BChw` may be (1, C, h, w) if it is the same for all images. The same computation as segment_anything's
    `MaskDecoder.predict_masks`, which takes a single image.
    """
    queries, (height, width) = sparse_QTC.shape[0], embedding_BChw.shape[2:]
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(queries, -1, -1), sparse_QTC], dim=1)
    source_BNC = (embedding_BChw + dense_BChw).flatten(2).mT
    out_QTC, source_QNC = _two_ways(decoder.transformer, source_BNC, position_1Chw.flatten(2).mT, tokens)
    fine = decoder.output_upscaling(source_QNC.mT.unflatten(2, (height, width)))
    filters = [mlp(out_QTC[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    logits = (torch.stack(filters, dim=1) @ fine.flatten(2)).unflatten(2, fine.shape[2:])
    return logits, decoder.iou_prediction_head(out_QTC[:, 0])


def _two_ways(
    transformer: TwoWayTransformer, image_BNC: Tensor, position_1NC: Tensor, tokens_QTC: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the tokens (Q, T, C) and the image (Q, N, C) after segment_anything's two-way transformer."""
    out_QTC, image_XNC = tokens_QTC, image_BNC
    for layer in transformer.layers:
        out_QTC, image_XNC = _layer(layer, out_QTC, image_XNC, tokens_QTC, position_1NC)
    attention, placed_XNC = transformer.final_attn_token_to_image, image_XNC + position_1NC
    out_QTC = out_QTC + _attend(attention, out_QTC + tokens_QTC, placed_XNC, image_XNC)
    return transformer.norm_final_attn(out_QTC), image_XNC


def _layer(
    layer: TwoWayAttentionBlock, out_QTC: Tensor, image_XNC: Tensor, tokens_QTC: Tensor, position_1NC: Tensor
) -> tuple[Tensor, Tensor]:
    """Run one layer; the image input has one stream per image or per query, the output one per query."""
    if layer.skip_first_layer_pe:
        out_QTC = _attend(layer.self_attn, out_QTC, out_QTC, out_QTC)
    else:
        placed_QTC = out_QTC + tokens_QTC
        out_QTC = out_QTC + _attend(layer.self_attn, placed_QTC, placed_QTC, out_QTC)
    out_QTC = layer.norm1(out_QTC)
    placed_XNC = image_XNC + position_1NC
    to_image = _attend(layer.cross_attn_token_to_image, out_QTC + tokens_QTC, placed_XNC, image_XNC)
    out_QTC = layer.norm2(out_QTC + to_image)
    out_QTC = layer.norm3(out_QTC + layer.mlp(out_QTC))
    to_tokens_QNC = _attend(layer.cross_attn_image_to_token, placed_XNC, out_QTC + tokens_QTC, out_QTC, few_keys=True)
    image_QNC = _each(image_XNC, out_QTC.shape[0]) + to_tokens_QNC
    return out_QTC, layer.norm4(image_QNC)


def _attend(
    attention: Attention, query_XTC: Tensor, key_YNC: Tensor, value_YNC: Tensor, *, few_keys: bool = False
) -> Tensor:
    """Return segment_anything's `Attention`; the side with fewer batches is repeated.

    It is repeated after its projection, so the projection runs once. With `few_keys` the softmax runs over the key
    axis of a transposed score matrix, because the fused kernel is slow for few keys per query.
    """
    batches, heads = max(query_XTC.shape[0], key_YNC.shape[0]), attention.num_heads
    query, key, value = (
        _each(project(x).unflatten(2, (heads, -1)).transpose(1, 2), batches)
        for project, x in (
            (attention.q_proj, query_XTC),
            (attention.k_proj, key_YNC),
            (attention.v_proj, value_YNC),
        )
    )
    if few_keys:
        out = (key * key.shape[-1] ** -0.5 @ query.mT).softmax(dim=-2).mT @ value
    else:
        out = functional.scaled_dot_product_attention(query, key, value)
    gathered: Tensor = attention.out_proj(out.transpose(1, 2).flatten(2))
    return gathered


def _each(x: Tensor, batches: int) -> Tensor:
    """Return `batches` entries, each input entry repeated next to itself; a single entry is expanded, not copied."""
    have = x.shape[0]  # not len(x): that would fix the number of prompts in an exported graph
    if have == 1:
        return x.expand(batches, *x.shape[1:])
    return x if have == batches else x.repeat_interleave(batches // have, dim=0)


def upsample(logits_BPMhw: Tensor, side_px: int) -> Tensor:
    """Return the logits at the network's input size, (B, P, M, S, S), bilinear as in `Sam.postprocess_masks`."""
    flat = logits_BPMhw.flatten(0, 1)
    large = functional.interpolate(flat, (side_px, side_px), mode="bilinear", align_corners=False)
    apart: Tensor = large.unflatten(0, logits_BPMhw.shape[:2])
    return apart
