"""SAM's prompt encoder and mask decoder over a batch of images at once, with gradients.

`Sam.forward` runs without gradients and image by image; training needs neither.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from quatrain.sam import MaskDecoder, Sam

# B images, P prompts an image, M mask tokens (one for a single mask, three for an ambiguous prompt), C channels,
# h w positions of the image embedding, S pixels along a side of the network's input


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
    """Return the mask logits (B, P, M, 4h, 4w) and the predicted IoU (B, P, M) for one foreground point a prompt.

    `point_BP2` holds x, y in pixels of the network's input. M is 4: the single mask, then the three candidates.
    """
    batch, prompts = point_BP2.shape[:2]
    points = point_BP2.reshape(batch * prompts, 1, 2)
    foreground = torch.ones(batch * prompts, 1, dtype=torch.int32, device=points.device)
    sparse, dense = sam.prompt_encoder(points=(points, foreground), boxes=None, masks=None)
    logits, iou = predict(sam.mask_decoder, embedding_BChw, sam.prompt_encoder.get_dense_pe(), sparse, dense)
    return logits.unflatten(0, (batch, prompts)), iou.unflatten(0, (batch, prompts))


def predict(
    decoder: MaskDecoder, embedding_BChw: Tensor, position_1Chw: Tensor, sparse_QTC: Tensor, dense_QChw: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits (Q, M, 4h, 4w) and IoU (Q, M) of Q = B x P prompts, those of one image together.

    The same computation as segment_anything's `MaskDecoder.predict_masks`, which takes a single image.
    """
    queries = len(sparse_QTC)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(queries, -1, -1), sparse_QTC], dim=1)
    source = embedding_BChw.repeat_interleave(queries // len(embedding_BChw), dim=0) + dense_QChw
    out_QTC, source_QNC = decoder.transformer(source, position_1Chw.expand(queries, -1, -1, -1), tokens)
    fine = decoder.output_upscaling(source_QNC.transpose(1, 2).reshape(source.shape))
    filters = [mlp(out_QTC[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    logits = torch.einsum("qmc,qchw->qmhw", torch.stack(filters, dim=1), fine)
    return logits, decoder.iou_prediction_head(out_QTC[:, 0])


def upsample(logits_BPMhw: Tensor, side_px: int) -> Tensor:
    """Return the logits at the network's input size, (B, P, M, S, S), bilinear as in `Sam.postprocess_masks`."""
    flat = logits_BPMhw.flatten(0, 1)
    large = functional.interpolate(flat, (side_px, side_px), mode="bilinear", align_corners=False)
    apart: Tensor = large.unflatten(0, logits_BPMhw.shape[:2])
    return apart
