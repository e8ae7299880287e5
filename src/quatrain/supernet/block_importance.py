"""Few-shot importance of transformer blocks, and the blocks that a supernet may drop (SuperSAM, structured pruning).

The paper names a few-shot importance; its public code has a fixed set with probability one half. The formula is ours:
the importance of a block is the mean IoU lost when it alone is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quatrain.sam.official import Sam
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import EvalSet, candidate_ious, image_batches
from quatrain.supernet.space import Subnet


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """The importance of each block on a few images."""

    miou: float
    """Mean IoU (best of three masks) of the full network."""
    drop: tuple[float, ...]
    """Mean IoU lost by leaving each block out; negative if the network is better without it."""


@torch.inference_mode()
def block_importance(sam: Sam, encoder: ElasticEncoder, eval_set: EvalSet, batch: int = 8) -> Importance:
    """Return the mean IoU lost without each block; the blocks before the missing one run once for all."""
    depth = encoder.shape.depth
    reached: list[list[float]] = [[] for _ in range(depth + 1)]
    for pixels, images in image_batches(sam, eval_set, batch):
        for without, embedding_BChw in enumerate(_leaving_out(encoder, pixels)):
            for image, embedding in zip(images, embedding_BChw, strict=True):
                iou_N3, _ = candidate_ious(sam, embedding, image)
                reached[without] += iou_N3.amax(dim=1).tolist()
    *dropped, full = (float(np.mean(ious)) for ious in reached)
    return Importance(miou=full, drop=tuple(full - miou for miou in dropped))


def _leaving_out(encoder: ElasticEncoder, image_B3SS: Tensor) -> list[Tensor]:
    """Return the embeddings without block 0, without block 1, ..., and finally with all blocks."""
    hidden, depth = encoder.shape.hidden, encoder.shape.depth
    stream = encoder.embed(image_B3SS)
    embeddings = []
    for without in range(depth):
        shorter = stream
        for block in range(without + 1, depth):
            (shorter,) = encoder.block(block, shorter, (hidden,))
        embeddings.append(encoder.readout(shorter))
        (stream,) = encoder.block(without, stream, (hidden,))
    return [*embeddings, encoder.readout(stream)]


def removable_blocks(drop: tuple[float, ...], share: float) -> tuple[int, ...]:
    """Return the round(share * depth) least important blocks, ascending; never the first or the last."""
    inner = range(1, len(drop) - 1)
    count = min(round(share * len(drop)), len(inner))
    return tuple(sorted(sorted(inner, key=lambda block: drop[block])[:count]))


def greedy_blocks(miou: Callable[[Subnet], float], full: Subnet, share: float) -> tuple[int, ...]:
    """Return round(share * depth) blocks in the order of greedy removal; never the first or the last.

    Each round removes the block whose loss leaves the highest `miou`, given the blocks removed before.
    """
    left, removed = set(range(1, len(full.widths) - 1)), list[int]()
    while left and len(removed) < round(share * len(full.widths)):
        reached = {block: miou(_without(full, (*removed, block))) for block in sorted(left)}
        removed.append(max(reached, key=lambda block: reached[block]))
        left.remove(removed[-1])
    return tuple(removed)


def _without(full: Subnet, removed: tuple[int, ...]) -> Subnet:
    return Subnet(widths=tuple(0 if block in removed else width for block, width in enumerate(full.widths)))


def drop_probabilities(drop: tuple[float, ...], removable: tuple[int, ...], fixed: float | None) -> tuple[float, ...]:
    """Return the drop probability of each removable block: `fixed`, or 0.8 (least important) down to 0.2."""
    if fixed is not None:
        return (fixed,) * len(removable)
    ranks = {block: rank for rank, block in enumerate(sorted(removable, key=lambda block: drop[block]))}
    steps = max(1, len(removable) - 1)
    return tuple(0.8 - 0.6 * ranks[block] / steps for block in removable)
