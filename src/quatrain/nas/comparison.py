"""The comparison that a study publishes: the found network beside baselines and random networks of its size.

A study plans `NetRow`s, measures what `NetRow.measure_keys` names, and `table` and `outcome` turn the figures into
table.json and summary.json.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.nas.config import NasConfig
from quatrain.sam.registry import SamShape
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Evaluation
from quatrain.search.random_networks import random_in_bucket
from quatrain.search.search import Search
from quatrain.seeding import numpy_rng
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Space, Subnet

RESTRICTED = 8
"""Networks of the depth-only and of the width-only space that are measured."""
SHARE_STEP = 10
"""Width of a row "top net of ... size", in percent of the full encoder's parameters."""
RANDOM_SIZES = 3
"""Sizes along the front for which random networks are measured."""
RANDOM = "random nets of the best one's size"

MeasureKey = tuple[str, str, str]
"""A checkpoint of the study, a network's key and a part of the images: one measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetRow:
    """A network to be measured on test and validation images; rows of one name are averaged."""

    name: str
    weights: str
    """The checkpoint of the study that it runs on."""
    subnet: Subnet
    note: str = ""

    def measure_key(self, part: str) -> MeasureKey:
        """Return the key of the network's measurement on a part of the images."""
        return self.weights, self.subnet.key, part

    @property
    def measure_keys(self) -> tuple[MeasureKey, MeasureKey]:
        """The measurements that the table needs."""
        return self.measure_key("test"), self.measure_key("validation")


# Restricted spaces


def depth_only(space: Space, bounds: Bounds, seed: int) -> list[Subnet]:
    """Return up to RESTRICTED networks within the bounds that drop blocks and keep every width."""
    full = space.largest().widths
    counts = range(len(space.removable) + 1)
    drops = (set(some) for count in counts for some in itertools.combinations(space.removable, count))
    nets = [Subnet(widths=tuple(0 if i in dropped else width for i, width in enumerate(full))) for dropped in drops]
    nets = [net for net in nets if bounds.admits(net)]
    if len(nets) <= RESTRICTED:
        return nets
    chosen = numpy_rng(seed, "depth only").choice(len(nets), RESTRICTED, replace=False)
    return [nets[i] for i in sorted(chosen)]


def width_only(space: Space, bounds: Bounds, seed: int) -> list[Subnet]:
    """Return up to RESTRICTED networks within the bounds that keep every block and narrow the MLPs.

    Networks with one width for all blocks come first, then random widths.
    """
    steps = max(map(len, space.choices))
    even = [Subnet(widths=tuple(w[min(i, len(w) - 1)] for w in space.choices)) for i in reversed(range(steps))]
    rng = numpy_rng(seed, "width only")
    mixed = [Subnet(widths=tuple(int(rng.choice(w)) for w in space.choices)) for _ in range(4 * RESTRICTED)]
    return list(dict.fromkeys(net for net in [*even, *mixed] if bounds.admits(net)))[:RESTRICTED]


# Random baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeBucket:
    """Random networks of about one size."""

    params: int
    """Encoder parameters around which they were drawn."""
    subnets: tuple[Subnet, ...]


def size_buckets(space: Space, bounds: Bounds, search: Search, *, count: int, seed: int) -> list[SizeBucket]:
    """Return `count` random networks of the best network's size, and of sizes along the front within the bounds."""
    best = search.best()
    if best is None or not count:
        return []
    front = [found for found in search.pareto() if bounds.admits(found.subnet)]
    sizes = {best.params, *(found.params for found in _spread(front))}
    drawn = {params: random_in_bucket(space, bounds, params=params, count=count, seed=seed) for params in sorted(sizes)}
    return [SizeBucket(params=params, subnets=nets) for params, nets in drawn.items() if nets]


def _spread(front: Sequence[Evaluation]) -> list[Evaluation]:
    indices = {round(i * (len(front) - 1) / RANDOM_SIZES) for i in range(RANDOM_SIZES)}
    return [front[index] for index in sorted(indices)] if front else []


def random_baseline(buckets: Sequence[SizeBucket], search: Search) -> list[dict[str, Any]]:
    """Return for each size bucket, as plain data, its sizes and the mean, lowest and highest score."""
    lines = []
    for bucket in buckets:
        known = [evaluation for net in bucket.subnets if (evaluation := search.known(net))]
        if known:
            scores, sizes = [one.score for one in known], [one.params for one in known]
            lines.append(
                {
                    "params": bucket.params,
                    "least_params": min(sizes),
                    "most_params": max(sizes),
                    "nets": len(known),
                    "mean": statistics.fmean(scores),
                    "lowest": min(scores),
                    "highest": max(scores),
                }
            )
    return lines


def bucket_of(buckets: Sequence[SizeBucket], bounds: Bounds, subnet: Subnet) -> tuple[Subnet, ...]:
    """Return the random networks of a network's size; none without a bucket of that size."""
    size = encoder_parameters(bounds.sam, subnet)
    return next((bucket.subnets for bucket in buckets if bucket.params == size), ())


# Rows


def nas_rows(config: NasConfig, sam: SamShape, space: Space, search: Search, bounds: Bounds, seed: int) -> list[NetRow]:
    """Return the rows of a nas run; networks of the search are chosen by their scores on validation images."""
    best = search.best()
    if best is None:
        raise ValueError("no network was evaluated; there is no best network")
    nets = random_in_bucket(space, bounds, params=best.params, count=config.search.random_in_bucket, seed=seed)
    return [
        *_baselines(sam, full_subnet(sam), space.smallest(), best.subnet),
        *_top_by_size(sam, search),
        *_random_rows(nets),
        *_best_restricted("depth only", depth_only(space, bounds, seed), search),
        *_best_restricted("width only", width_only(space, bounds, seed), search),
        *_channel_orders(config, best.subnet),
    ]


def autotune_rows(
    space: Space, bounds: Bounds, best: Subnet, random_nets: Sequence[Subnet], checkpoints: Path
) -> list[NetRow]:
    """Return the rows of an autotune run; rows without weights in `checkpoints` are left out."""
    rows = [
        *_baselines(bounds.sam, space.largest(), space.smallest(), best),
        NetRow(name="best, fine-tuned", weights="tuned", subnet=best, note="trained alone at the end"),
        *_random_rows(random_nets),
    ]
    return [row for row in rows if (checkpoints / f"{row.weights}.pt").exists()]


def _baselines(sam: SamShape, largest: Subnet, smallest: Subnet, best: Subnet) -> list[NetRow]:
    full = full_subnet(sam)
    return [
        NetRow(name="pretrained", weights="start", subnet=full, note="zero-shot"),
        NetRow(name="fine-tuned", weights="finetune", subnet=full, note="the full net alone, same images and steps"),
        NetRow(name="largest", weights="supernet", subnet=largest, note="of the supernet"),
        NetRow(name="smallest", weights="supernet", subnet=smallest, note="of the supernet"),
        NetRow(name="best", weights="supernet", subnet=best, note=f"within the bounds: {best.key}"),
    ]


def _random_rows(nets: Sequence[Subnet]) -> list[NetRow]:
    return [NetRow(name=RANDOM, weights="supernet", subnet=net, note="random baseline of the search") for net in nets]


def _top_by_size(sam: SamShape, search: Search) -> list[NetRow]:
    full = encoder_parameters(sam, full_subnet(sam))
    top: dict[int, Evaluation] = {}
    for evaluation in search.evaluations:
        low = 100 * evaluation.params // full // SHARE_STEP * SHARE_STEP
        if low not in top or evaluation.score > top[low].score:
            top[low] = evaluation
    return [
        NetRow(name=f"top net of {low}-{low + SHARE_STEP} % size", weights="supernet", subnet=top[low].subnet)
        for low in sorted(top)
        if low < 100
    ]


def _best_restricted(name: str, nets: Sequence[Subnet], search: Search) -> list[NetRow]:
    known = [evaluation for net in nets if (evaluation := search.known(net))]
    if not known:
        return []
    chosen = max(known, key=lambda evaluation: evaluation.score).subnet
    name = f"{name}, best of {len(known)}"
    return [NetRow(name=name, weights="supernet", subnet=chosen, note="within the bounds")]


def _channel_orders(config: NasConfig, best: Subnet) -> list[NetRow]:
    """Return the best network with other channel orders, trained if the run has ablations, else before training."""
    prefix, when = ("supernet", "after training") if config.ablations else ("start", "before training")
    orders = {"sorted": prefix, "as they are": f"{prefix}-none", "at random": f"{prefix}-random"}
    return [
        NetRow(name=f"found widths, channels {order}", weights=weights, subnet=best, note=when)
        for order, weights in orders.items()
    ]


# Figures


def known_scores(planned: Sequence[NetRow], search: Search) -> dict[MeasureKey, Mapping[str, float]]:
    """Return the validation figures of the rows' networks that the search has measured already."""
    known = {row: search.known(row.subnet) for row in planned if row.weights == "supernet"}
    return {row.measure_key("validation"): found.metrics for row, found in known.items() if found}


def table(
    sam: SamShape, planned: Sequence[NetRow], figures: Mapping[MeasureKey, Mapping[str, float]], ms: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the lines of table.json; rows of one name become their mean, with half their range as spread.

    `figures` holds every row's figures on test and on validation images. `ms` is the latency of each row's encoder in
    milliseconds per image.
    """
    lines: list[dict[str, Any]] = []
    for name in dict.fromkeys(row.name for row in planned):
        same = [(row, own_ms) for row, own_ms in zip(planned, ms, strict=True) if row.name == name]
        rows = [row for row, _ in same]
        tested, validated = ([figures[row.measure_key(part)] for row in rows] for part in ("test", "validation"))
        oracle = [one["miou_oracle"] for one in tested]
        line = {
            "name": name,
            "params": round(statistics.fmean(encoder_parameters(sam, row.subnet) for row in rows)),
            "gmacs": statistics.fmean(encoder_macs(sam, row.subnet) / 1e9 for row in rows),
            "latency_ms": statistics.fmean(own_ms for _, own_ms in same),
            "miou_oracle": statistics.fmean(oracle),
            "miou_chosen": statistics.fmean(one["miou_chosen"] for one in tested),
            "miou_validation": statistics.fmean(one["miou_oracle"] for one in validated),
            "images": int(tested[0]["images"]),
            "objects": int(tested[0]["objects"]),
            "note": rows[0].note,
        }
        if len(rows) > 1:
            line |= {"spread": (max(oracle) - min(oracle)) / 2, "note": f"mean of {len(rows)}; {line['note']}"}
        lines.append(line)
    return lines


def outcome(
    lines: Sequence[Mapping[str, Any]], search: Search, best: Subnet, checkpoint: str, name: str = "best"
) -> dict[str, Any]:
    """Return the result keys of summary.json: baseline, finetuned, best, pareto and evaluations.

    `name` is the row of the best net. "finetuned" is None if the full net was not fine-tuned.
    """
    keys = {"miou": "miou_oracle", **{key: key for key in ("miou_chosen", "params", "gmacs", "latency_ms")}}
    figures = {line["name"]: {key: line[column] for key, column in keys.items()} for line in lines}
    reduction = 1 - figures[name]["params"] / figures["pretrained"]["params"]
    front = [{"subnet": e.subnet.key, "params": e.params, "gmacs": e.macs / 1e9, **e.metrics} for e in search.pareto()]
    return {
        "baseline": figures["pretrained"],
        "finetuned": figures.get("fine-tuned"),
        "best": {**figures[name], "reduction": reduction, "subnet": best.key, "checkpoint": checkpoint},
        "pareto": front,
        "evaluations": len(search.evaluations),
    }
