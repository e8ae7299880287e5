"""What the found network is held against: baselines, and random networks of every size on the front."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.search.baseline import random_in_bucket
from quatrain.search.bounds import Bounds
from quatrain.search.search import Search
from quatrain.search.trial import Evaluation
from quatrain.supernet.shapes import encoder_parameters
from quatrain.supernet.subnet import Space, Subnet
from quatrain.supernet.table import RANDOM, Row

BANDS = 3
"""Sizes, from the smallest to the largest of the front, of which random networks are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Random networks of about one size."""

    params: int
    subnets: tuple[Subnet, ...]


def bands(space: Space, bounds: Bounds, search: Search, *, count: int, seed: int) -> list[Band]:
    """Return `count` random networks of the best network's size, and of sizes over the front within the bounds."""
    best = search.best()
    if best is None or not count:
        return []
    front = [found for found in search.pareto() if bounds.admits(found.subnet)]
    sizes = dict.fromkeys([*(found.params for found in _spread(front)), best.params])
    drawn = {params: random_in_bucket(space, bounds, params=params, count=count, seed=seed) for params in sorted(sizes)}
    return [Band(params=params, subnets=nets) for params, nets in drawn.items() if nets]


def _spread(front: Sequence[Evaluation]) -> list[Evaluation]:
    places = {round(i * (len(front) - 1) / BANDS) for i in range(BANDS)}
    return [front[place] for place in sorted(places)] if front else []


def banded(found: Sequence[Band], search: Search) -> list[dict[str, Any]]:
    """Return what the search knows of each band, as plain data: sizes, and mean, lowest and highest score."""
    lines = []
    for band in found:
        known = [evaluation for net in band.subnets if (evaluation := search.known(net))]
        if known:
            scores, sizes = [one.score for one in known], [one.params for one in known]
            lines.append(
                {
                    "params": band.params,
                    "least_params": min(sizes),
                    "most_params": max(sizes),
                    "nets": len(known),
                    "mean": statistics.fmean(scores),
                    "lowest": min(scores),
                    "highest": max(scores),
                }
            )
    return lines


def lineup(space: Space, bounds: Bounds, best: Subnet, luck: Sequence[Subnet], checkpoints: Path) -> list[Row]:
    """Return every network of the table of which `checkpoints` has weights.

    Baselines, the found one, the same trained by itself, and `luck` of its size.
    """
    full = bounds.sam.full
    found = [
        Row(name="pretrained", weights="start", subnet=full, note="zero-shot"),
        Row(name="fine-tuned", weights="finetune", subnet=full, note="the full net alone, same images and steps"),
        Row(name="largest", weights="supernet", subnet=space.largest(), note="of the supernet"),
        Row(name="smallest", weights="supernet", subnet=space.smallest(), note="of the supernet"),
        Row(name="best", weights="supernet", subnet=best, note=f"within the bounds: {best.key}"),
        Row(name="best, fine-tuned", weights="tuned", subnet=best, note="trained by itself at the end"),
        *(Row(name=RANDOM, weights="supernet", subnet=net, note="what the search adds to luck") for net in luck),
    ]
    return [row for row in found if (checkpoints / f"{row.weights}.pt").exists()]


def of_size(found: Sequence[Band], bounds: Bounds, best: Subnet) -> tuple[Subnet, ...]:
    """Return the random networks of the best one's size."""
    size = encoder_parameters(bounds.sam, best)
    return next((band.subnets for band in found if band.params == size), ())
