"""The table that a study publishes: the found network beside every baseline that it has to be held against."""

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
"""Networks of the depth-only and of the width-only space that are measured, the widest choice of each first."""
BUCKET = 10
"""Width of a size bucket, in percent of the full encoder's parameters."""
RANDOM = "random nets of the best one's size"


Place = tuple[str, str, str]
"""Weights, a network's key and a part of the images: what was measured, or is to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A network to be measured on test and validation images; rows of one name are averaged."""

    name: str
    weights: str
    """The checkpoint of the study that it runs on."""
    subnet: Subnet
    note: str = ""

    def place(self, part: str) -> Place:
        """Return what is measured of the network on a part of the images."""
        return self.weights, self.subnet.key, part

    @property
    def places(self) -> tuple[Place, Place]:
        """What the table tells of the network."""
        return self.place("test"), self.place("validation")


def depth_only(space: Space, bounds: Bounds, seed: int) -> list[Subnet]:
    """Return networks that drop blocks and keep every width, within the bounds."""
    full = space.largest().widths
    drops = (
        set(some)
        for count in range(len(space.removable) + 1)
        for some in itertools.combinations(space.removable, count)
    )
    nets = [Subnet(widths=tuple(0 if i in gone else width for i, width in enumerate(full))) for gone in drops]
    return _some([net for net in nets if bounds.admits(net)], seed, "depth only")


def width_only(space: Space, bounds: Bounds, seed: int) -> list[Subnet]:
    """Return networks that keep every block and narrow the MLPs: one width for all, then mixed, within the bounds."""
    steps = max(map(len, space.choices))
    even = [Subnet(widths=tuple(w[min(i, len(w) - 1)] for w in space.choices)) for i in reversed(range(steps))]
    rng = numpy_rng(seed, "width only")
    mixed = [Subnet(widths=tuple(int(rng.choice(w)) for w in space.choices)) for _ in range(4 * RESTRICTED)]
    return list(dict.fromkeys(net for net in [*even, *mixed] if bounds.admits(net)))[:RESTRICTED]


def _some(nets: list[Subnet], seed: int, name: str) -> list[Subnet]:
    if len(nets) <= RESTRICTED:
        return nets
    chosen = numpy_rng(seed, name).choice(len(nets), RESTRICTED, replace=False)
    return [nets[i] for i in sorted(chosen)]


def rows(config: NasConfig, sam: SamShape, space: Space, search: Search, bounds: Bounds, seed: int) -> list[Row]:
    """Return every network of the table; those of a search are chosen by what it measured on validation images."""
    best = search.best()
    if best is None:
        raise ValueError("nothing was evaluated; there is no best network")
    found = [
        Row(name="pretrained", weights="start", subnet=full_subnet(sam), note="zero-shot"),
        Row(
            name="fine-tuned",
            weights="finetune",
            subnet=full_subnet(sam),
            note="the full net alone, same images and steps",
        ),
        Row(name="largest", weights="supernet", subnet=full_subnet(sam), note="of the supernet"),
        Row(name="smallest", weights="supernet", subnet=space.smallest(), note="of the supernet"),
        Row(name="best", weights="supernet", subnet=best.subnet, note=f"within the bounds: {best.subnet.key}"),
        *_of_buckets(sam, search),
        *(
            Row(name=RANDOM, weights="supernet", subnet=subnet, note="what the search adds to luck")
            for subnet in random_in_bucket(
                space, bounds, params=best.params, count=config.search.random_in_bucket, seed=seed
            )
        ),
    ]
    for name, nets in (
        ("depth only", depth_only(space, bounds, seed)),
        ("width only", width_only(space, bounds, seed)),
    ):
        known = [evaluation for net in nets if (evaluation := search.known(net))]
        if known:
            chosen = max(known, key=lambda evaluation: evaluation.score)
            found.append(
                Row(
                    name=f"{name}, best of {len(known)}",
                    weights="supernet",
                    subnet=chosen.subnet,
                    note="within the bounds",
                )
            )
    return [*found, *_orders(config, best.subnet)]


def _of_buckets(sam: SamShape, search: Search) -> list[Row]:
    full = encoder_parameters(sam, full_subnet(sam))
    buckets: dict[int, Any] = {}
    for evaluation in search.evaluations:
        low = 100 * evaluation.params // full // BUCKET * BUCKET
        if low not in buckets or evaluation.score > buckets[low].score:
            buckets[low] = evaluation
    return [
        Row(name=f"top net of {low}-{low + BUCKET} % size", weights="supernet", subnet=buckets[low].subnet)
        for low in sorted(buckets)
        if low < 100
    ]


def _orders(config: NasConfig, best: Subnet) -> list[Row]:
    """Return the best network on channels in other orders: trained where ablations were, else before any training."""
    prefix, when = ("supernet", "after training") if config.ablations else ("start", "before training")
    orders = {"sorted": prefix, "as they are": f"{prefix}-none", "at random": f"{prefix}-random"}
    return [
        Row(name=f"found widths, channels {order}", weights=weights, subnet=best, note=when)
        for order, weights in orders.items()
    ]


def validated(planned: Sequence[Row], search: Search) -> dict[Place, Mapping[str, float]]:
    """Return the figures on validation images that the search has of the rows' networks, so they are known already."""
    known = {row: search.known(row.subnet) for row in planned if row.weights == "supernet"}
    return {row.place("validation"): found.metrics for row, found in known.items() if found}


def table(
    sam: SamShape,
    planned: Sequence[Row],
    figures: Mapping[Place, Mapping[str, float]],
    ms: Sequence[float],
) -> list[dict[str, Any]]:
    """Return the table's lines as plain data; rows of one name become their mean, with half their range as spread.

    `figures` hold what was measured at the places of every row, on test images and on those that the search chose by;
    `ms` are the milliseconds an image of each row's encoder.
    """
    lines: list[dict[str, Any]] = []
    for name in dict.fromkeys(row.name for row in planned):
        places = [i for i, row in enumerate(planned) if row.name == name]
        tested, chosen_by = ([figures[planned[i].place(part)] for i in places] for part in ("test", "validation"))
        oracle = [one["miou_oracle"] for one in tested]
        line = {
            "name": name,
            "params": round(_mean(encoder_parameters(sam, planned[i].subnet) for i in places)),
            "gmacs": _mean(encoder_macs(sam, planned[i].subnet) / 1e9 for i in places),
            "latency_ms": _mean(ms[i] for i in places),
            "miou_oracle": _mean(oracle),
            "miou_chosen": _mean(one["miou_chosen"] for one in tested),
            "miou_validation": _mean(one["miou_oracle"] for one in chosen_by),
            "images": int(tested[0]["images"]),
            "objects": int(tested[0]["objects"]),
            "note": planned[places[0]].note,
        }
        if len(places) > 1:
            line |= {"spread": (max(oracle) - min(oracle)) / 2, "note": f"mean of {len(places)}; {line['note']}"}
        lines.append(line)
    return lines


def _mean(values: Any) -> float:
    return statistics.fmean(values)


def outcome(
    lines: Sequence[Mapping[str, Any]], search: Search, best: Subnet, checkpoint: str, name: str = "best"
) -> dict[str, Any]:
    """Return what summary.json tells of a study: baseline, fine-tuned and best net, the front, the evaluations.

    `name` is the row of the best net; where the full net was not fine-tuned, its figures are None.
    """
    figures = {
        line["name"]: {
            "miou": line["miou_oracle"],
            "miou_chosen": line["miou_chosen"],
            "params": line["params"],
            "gmacs": line["gmacs"],
            "latency_ms": line["latency_ms"],
        }
        for line in lines
    }
    reduction = 1 - figures[name]["params"] / figures["pretrained"]["params"]
    front = [{"subnet": e.subnet.key, "params": e.params, "gmacs": e.macs / 1e9, **e.metrics} for e in search.pareto()]
    return {
        "baseline": figures["pretrained"],
        "finetuned": figures.get("fine-tuned"),
        "best": {**figures[name], "reduction": reduction, "subnet": best.key, "checkpoint": checkpoint},
        "pareto": front,
        "evaluations": len(search.evaluations),
    }


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
    full = full_subnet(bounds.sam)
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
