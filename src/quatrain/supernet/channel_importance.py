"""Importance of the hidden channels of every MLP (SuperSAM, parameter prioritisation).

For a block with first layer W1 (m x d) and second layer W2 (d x m), a calibration batch gives X, the first layer's
input (tokens x d), and H, the second layer's input after the activation (tokens x m). Channel j scores

    r_j = sum_i |W1[j, i]| ||X[:, i]||_2        c_j = ||H[:, j]||_2 sum_o |W2[o, j]|

each averaged over the batches, then (r_j + c_j) / 2, after Wanda (Sun et al. 2023, equation 1). Sorting the channels
does not change the function of the full network. The first k channels are then the k most important ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from quatrain.seeding import numpy_rng
from quatrain.supernet.elastic import ElasticEncoder

# L blocks, M hidden channels, C channels of the stream, T tokens of a batch

Order = Literal["importance", "none", "random"]


@torch.inference_mode()
def channel_importance(
    encoder: ElasticEncoder, batches: Iterable[Tensor], *, standardise: bool = False
) -> list[Tensor]:
    """Return one score per hidden channel, float64 (M,) for each block; a larger score is more important.

    `batches` are normalised images, (B, 3, S, S). With `standardise`, row and column scores get zero mean and unit
    deviation before they are averaged, so that neither dominates.

    Raise ValueError without any batch.
    """
    rows: list[list[Tensor]] = [[] for _ in encoder.blocks]
    columns: list[list[Tensor]] = [[] for _ in encoder.blocks]
    for image_B3SS in batches:
        x_BHWC = encoder.embed(image_B3SS)
        for index in range(len(encoder.blocks)):
            x_BHWC = encoder.attend(index, x_BHWC)
            row, column = _score(encoder, index, x_BHWC)
            rows[index].append(row)
            columns[index].append(column)
            (x_BHWC,) = encoder.mlp(index, x_BHWC, (encoder.shape.hidden,))
    if not rows[0]:
        raise ValueError("there is no calibration batch; channel scores need at least one")
    return [_mean(row, column, standardise) for row, column in zip(rows, columns, strict=True)]


def _score(encoder: ElasticEncoder, index: int, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Return r and c of one block for one batch, from the stream after its attention."""
    block = encoder.blocks[index]
    lin1, lin2 = block.mlp.lin1, block.mlp.lin2
    x_TC = block.norm2(x_BHWC).flatten(0, 2)
    h_TM = block.mlp.act(functional.linear(x_TC, lin1.weight, lin1.bias))
    row = lin1.weight.double().abs() @ x_TC.double().norm(dim=0)
    column = h_TM.double().norm(dim=0) * lin2.weight.double().abs().sum(dim=0)
    return row, column


def _mean(rows: list[Tensor], columns: list[Tensor], standardise: bool) -> Tensor:
    row, column = torch.stack(rows).mean(dim=0), torch.stack(columns).mean(dim=0)
    if standardise:
        row, column = ((part - part.mean()) / part.std().clamp(min=1e-12) for part in (row, column))
    return (row + column) / 2


def channel_order(scores: list[Tensor], order: Order, seed: int) -> list[Tensor]:
    """Return each block's channels in their new order, int64 (M,): by falling score, unchanged, or at random."""
    if order == "none":
        return [torch.arange(len(score)) for score in scores]
    if order == "random":
        rng = numpy_rng(seed, "channel order")
        return [torch.from_numpy(rng.permutation(len(score)).astype(np.int64)) for score in scores]
    return [score.argsort(descending=True, stable=True).cpu() for score in scores]


@torch.no_grad()
def permute_channels(encoder: ElasticEncoder, orders: list[Tensor]) -> None:
    """Sort the hidden channels of every block in place; the function of the full network does not change."""
    for block, order in zip(encoder.blocks, orders, strict=True):
        lin1, lin2 = block.mlp.lin1, block.mlp.lin2
        lin1.weight.copy_(lin1.weight[order])
        lin1.bias.copy_(lin1.bias[order])
        lin2.weight.copy_(lin2.weight[:, order])
