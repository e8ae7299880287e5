"""The steps of a study, called by the workflow's tasks: functions of a run folder and plain data."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from quatrain import checkpoint
from quatrain.data.prepare import Prepared
from quatrain.files import read_lines, replacing, write_json, write_text
from quatrain.nas import study as studies
from quatrain.nas.config import NasConfig
from quatrain.nas.results import write_results
from quatrain.nas.study import NasStudy, Part, Weights
from quatrain.progress import Meter
from quatrain.report.overlay import overlay
from quatrain.sam.build import load_sam
from quatrain.sam.official import Sam
from quatrain.search.constraints import Bounds
from quatrain.seeding import numpy_rng
from quatrain.supernet.block_importance import (
    Importance,
    block_importance,
    drop_probabilities,
    greedy_blocks,
    removable_blocks,
)
from quatrain.supernet.channel_importance import Order, channel_importance, channel_order, permute_channels
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import EvalSet, Evaluator, candidate_ious, candidate_masks, image_batches
from quatrain.supernet.extract import extract, save
from quatrain.supernet.latency import Timing, calibrate
from quatrain.supernet.latency import measure as measured_latency
from quatrain.supernet.latency import write as write_table
from quatrain.supernet.space import Space, Subnet

LATENCY_TABLE = "latency.json"
"""The file of a run folder that predicts latencies."""


def prepare(folder: str, config: NasConfig, seed: int) -> dict[str, Any]:
    """Split the images, find the removable blocks, sort the channels and write the initial weights.

    Returns the split's sizes, the space and the mean IoU of the pretrained net on the few-shot images.
    """
    study = NasStudy.create(Path(folder), config, seed)
    model = study.pretrained()
    eval_set = study.eval_set("train", config.few_shot_images)
    importance = block_importance(model, model.image_encoder, eval_set)
    order = _greedy(study, model, eval_set)
    space = _space(study, importance, order)
    _bounds(study).check(space)
    _write_importance(study, importance, order, space)
    NasStudy(folder=study.folder, config=config, seed=seed, split=study.split, space=space).write()
    _write_starts(study, model, eval_set)
    sizes = {part: len(getattr(study.split, part)) for part in ("train", "validation", "test")}
    skipped = [f"{skip.name}: {skip.reason}" for skip in study.images.skipped]
    return {
        "split": sizes,
        "skipped": skipped,
        "space": {**asdict(space), "global_blocks": study.sam.global_blocks},
        "few_shot_miou": importance.miou,
    }


def _greedy(study: NasStudy, model: Sam, eval_set: EvalSet) -> tuple[int, ...] | None:
    """Return the blocks in the order of greedy removal, or None if it is not configured."""
    wanted = study.config.space
    if not wanted.greedy or wanted.removable is not None:
        return None
    evaluator = Evaluator(model, eval_set)
    return greedy_blocks(
        lambda subnet: evaluator.score(subnet).mean.miou_oracle, full_subnet(study.sam), wanted.removable_share
    )


def _space(study: NasStudy, importance: Importance, order: tuple[int, ...] | None) -> Space:
    wanted, drop, removable = study.config.space, importance.drop, study.config.space.removable
    if order is not None:
        removable = tuple(sorted(order))
        drop = tuple(float(order.index(block)) if block in order else loss for block, loss in enumerate(drop))
    elif removable is None:
        removable = removable_blocks(drop, wanted.removable_share)
    fixed = None if wanted.drop_by_rank else wanted.drop_probability
    return wanted.space(study.sam, removable, drop_probabilities(drop, removable, fixed))


def _bounds(study: NasStudy) -> Bounds:
    return Bounds.parse(study.sam, max_params=study.config.search.max_params, max_macs=study.config.search.max_macs)


def _write_importance(study: NasStudy, importance: Importance, order: tuple[int, ...] | None, space: Space) -> None:
    record = {
        "importance": importance.drop,
        "baseline_miou": importance.miou,
        "greedy": order,
        "removable": space.removable,
        "probability": space.drop_probability,
        "global_blocks": study.sam.global_blocks,
    }
    write_json(study.folder / "importance.json", record)


def _write_starts(study: NasStudy, model: Sam, eval_set: EvalSet) -> None:
    """Write the initial weights: channels unsorted, at random, and in the configured order."""
    images = (batch for batch, _ in image_batches(model, eval_set, batch=8))
    scores = channel_importance(model.image_encoder, images, standardise=study.config.space.standardise)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    orders: dict[Weights, Order] = {"start-none": "none", "start-random": "random", "start": study.config.space.order}
    for name, order in orders.items():
        model.load_state_dict(before)
        permute_channels(model.image_encoder, channel_order(scores, order, study.seed))
        checkpoint.save(study.checkpoints / f"{name}.pt", {"model": model.state_dict()})


def measure(
    folder: str, weights: Weights, key: str, part: Part, first: int = 0, last: int | None = None
) -> dict[str, float]:
    """Return the figures of one sub-network on a part of the images: mIoU (oracle, chosen), objects, images.

    `first` and `last` select a range of the part, as in a slice.
    """
    evaluator = studies.evaluator(folder, weights, part)
    indices = range(len(evaluator.eval_set))[first:last]
    return asdict(evaluator.score(Subnet.parse(key), indices).mean)


def eval_size(folder: str, part: Part) -> int:
    """Return how many images of a part can be evaluated: those that can be read and have an object."""
    return len(studies.eval_set(folder, part))


def latency(folder: str, keys: list[str]) -> list[float]:
    """Return the milliseconds that each sub-network's image encoder takes for one image on this worker.

    Every network is timed once per round, so machine drift affects all alike. Equal networks get one figure. The figure
    is the median over the rounds.
    """
    encoder: ElasticEncoder = studies.network(folder, "start").image_encoder
    subnets, timing = {key: Subnet.parse(key) for key in keys}, Timing()
    meter = Meter(folder, "latency", total=len(subnets) * timing.passes)
    times = measured_latency(encoder, list(subnets.values()), timing, meter.advance)
    return [dict(zip(subnets, times, strict=True))[key] for key in keys]


def latency_table(folder: str, checks: int = 6) -> str:
    """Time every part of the space's networks on this worker and write latency.json; return its path in the folder.

    `checks` random networks are timed whole, so that the table has its error; see `supernet.latency`.
    """
    study = studies.opened(folder)
    space, rng = study.known_space(), numpy_rng(study.seed, "latency checks")
    nets = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(checks))]
    encoder: ElasticEncoder = studies.network(folder, "start").image_encoder
    write_table(study.folder / LATENCY_TABLE, calibrate(encoder, space, check=nets))
    return LATENCY_TABLE


def deliver(folder: str, key: str, weights: Weights = "supernet") -> str:
    """Write the found sub-network as checkpoints/best.pth, read it back, and return its path in the run folder."""
    study, subnet = studies.opened(folder), Subnet.parse(key)
    model = studies.network(folder, weights)
    path = study.checkpoints / "best.pth"
    save(path, extract(model, model.image_encoder, subnet), study.sam, subnet)
    load_sam(path)
    return str(path.relative_to(study.folder))


def forget_prefix(folder: str) -> None:
    """Remove the prefix cache; it is rebuilt when needed."""
    shutil.rmtree(Path(folder) / "prefix", ignore_errors=True)


def illustrate(folder: str, key: str, weights: Weights = "supernet", count: int = 4) -> None:
    """Write examples.json and its pictures: test images with truth, pretrained net and found net side by side."""
    study = studies.opened(folder)
    eval_set = studies.eval_set(folder, "test")
    nets: dict[str, tuple[Weights, str]] = {
        "pretrained": ("start", full_subnet(study.sam).key),
        "found": (weights, key),
    }
    found_masks = {name: _chosen_masks(folder, weights, net, eval_set, count) for name, (weights, net) in nets.items()}
    examples = []
    for place, image in enumerate(eval_set.images[:count]):
        prepared = image.prepared
        entry: dict[str, Any] = {"name": prepared.name}
        height, width = prepared.valid_hw
        pictures = {"image": None, "truth": prepared.masks_NSS[:, :height, :width]}
        for name, found in found_masks.items():
            pictures[name], entry[f"iou_{name}"] = found[place]
        for name, masks in pictures.items():
            entry[name] = _picture(study.folder, f"{place}-{name}", prepared, masks)
        examples.append(entry)
    write_json(study.folder / "examples.json", examples)


@torch.inference_mode()
def _chosen_masks(
    folder: str, weights: Weights, key: str, eval_set: EvalSet, count: int
) -> list[tuple[np.ndarray, float]]:
    """Return for the first images the masks chosen by predicted IoU, bool (N, H, W), and their mean IoU."""
    model, subnet = studies.network(folder, weights), Subnet.parse(key)
    found = []
    for pixels, images in image_batches(model, eval_set.first(count), batch=8):
        for image, embedding in zip(images, model.image_encoder(pixels, subnet), strict=True):
            masks, predicted = candidate_masks(model, embedding, image)
            ious, _ = candidate_ious(model, embedding, image)
            chosen = predicted.argmax(dim=1)
            each = torch.arange(len(chosen))
            found.append((masks[each, chosen].cpu().numpy(), float(ious[each, chosen].mean())))
    return found


def _picture(folder: Path, name: str, prepared: Prepared, masks_NHW: np.ndarray | None) -> str:
    height, width = prepared.valid_hw
    image_HWC = prepared.image_CHW[:, :height, :width].transpose(1, 2, 0)
    path = folder / "examples" / f"{name}.png"
    with replacing(path) as temporary:
        Image.fromarray(image_HWC if masks_NHW is None else overlay(image_HWC, masks_NHW)).save(temporary)
    return str(path.relative_to(folder))


def gather_training(folder: str) -> None:
    """Write training.jsonl, one line per step and network of every role without repeats, and results.h5."""
    lines = []
    for path in sorted(Path(folder).glob("training-*.jsonl")):
        role = path.stem.removeprefix("training-")
        steps = {line["step"]: line for line in read_lines(path)}
        lines += [
            {"run": role, "step": step, "net": net, "loss": loss, "lr": line["lr"], "seconds": line["seconds"]}
            for step, line in sorted(steps.items())
            for net, loss in line["losses"].items()
        ]
    write_text(Path(folder) / "training.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_results(folder)
