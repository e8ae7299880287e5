"""How much faster the automatic masks come than from segment_anything's own generator, and whether they are the same.

    python benchmarks/masks.py [--quick] [--models vit_mini vit_mini_1024 vit_b] [--cases decoder generate memory]

Both sides run in turns in one process, with the same weights, after one call of each on a small grid that is not
counted; the time is the median over the repeats, a value an image. Memory is the peak resident size above that before
the call, each side in a fresh process (Linux only).

- vit_mini: the shipped weights on made micrographs of 256 px.
- vit_mini_1024: the same weights at 1024 px, positions interpolated, on made micrographs of 1024 px.
- vit_b: seeded random weights at 1024 px. Its filters are scaled up until logits have the size of a trained model's,
  and of its masks the fifth with the largest predicted IoU are kept: random weights distinguish nothing else, so
  neither stability nor boxes reject any.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import emit
from torch import Tensor
from torch.nn import functional

from quatrain.data.synthetic import SyntheticImages
from quatrain.sam.automatic.encoder import encode
from quatrain.sam.automatic.generator import MaskGenerator
from quatrain.sam.automatic.point_decoder import PointDecoder
from quatrain.sam.build import build, load_mini
from quatrain.sam.official import Sam, SamAutomaticMaskGenerator
from quatrain.sam.registry import SHAPES

MODELS = ("vit_mini", "vit_mini_1024", "vit_b")
LOOSE = {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.7}
"""Thresholds at which the miniature keeps some tens of masks an image before duplicates are dropped."""
FILTERS = 40.0
Step = Callable[[], Any]


def model(name: str) -> Sam:
    """Return one of the models."""
    if name == "vit_mini":
        return load_mini()
    if name == "vit_mini_1024":
        return larger(load_mini())
    sam = build(SHAPES[name], seed=0)
    with torch.no_grad():
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(FILTERS)
            mlp.layers[-1].bias.mul_(FILTERS)
    return sam


def larger(mini: Sam) -> Sam:
    """Return the miniature for images of 1024 px: the same weights, positions interpolated."""
    sam = build(dataclasses.replace(SHAPES["vit_mini"], image_px=1024), seed=0)
    sizes = {key: value.shape for key, value in sam.state_dict().items()}
    sam.load_state_dict({key: resized(value, sizes[key]) for key, value in mini.state_dict().items()})
    return sam


def resized(value: Tensor, size: torch.Size) -> Tensor:
    """Interpolate a table of positions to another size."""
    if value.shape == size:
        return value
    if value.ndim == 2:  # relative positions
        return functional.interpolate(value.T[None], size[0], mode="linear")[0].T
    grid = functional.interpolate(value.permute(0, 3, 1, 2), size[1:3], mode="bicubic")
    return grid.permute(0, 2, 3, 1)


def images(sam: Sam, count: int) -> list[np.ndarray]:
    """Return made micrographs of the model's size."""
    made = SyntheticImages(count=count, seed=5, size_px=sam.image_encoder.img_size)
    return [made.read(index).image_HWC for index in range(count)]


def embedding(sam: Sam, image: np.ndarray) -> Tensor:
    """Return the embedding of an image of the model's size."""
    pixels = torch.as_tensor(image).permute(2, 0, 1)[None]
    return encode(sam.image_encoder, sam.preprocess(pixels))


def grid(sam: Sam, side: int) -> Tensor:
    """Return a grid of points in pixels."""
    line = (torch.arange(side) + 0.5) / side * sam.image_encoder.img_size
    return torch.cartesian_prod(line, line)


def stock_decoder(sam: Sam, image_1Chw: Tensor, point_Q2: Tensor) -> tuple[Tensor, Tensor]:
    """Run the stock mask decoder on some points."""
    labels = torch.ones(len(point_Q2), 1, dtype=torch.int)
    sparse, dense = sam.prompt_encoder(points=(point_Q2[:, None], labels), boxes=None, masks=None)
    logits, iou = sam.mask_decoder(
        image_embeddings=image_1Chw,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    return logits, iou


def our_decoder(sam: Sam, image_1Chw: Tensor, point_Q2: Tensor) -> tuple[Tensor, Tensor]:
    """Run ours on some points, every mask drawn."""
    decoder = PointDecoder(sam, image_1Chw)
    answer = decoder.read(point_Q2)
    return decoder.draw(answer, torch.arange(len(point_Q2))), answer.iou_QM


def thresholds(name: str, sam: Sam, image_1Chw: Tensor, side: int) -> dict[str, Any]:
    """Return the settings at which a model keeps masks."""
    if name != "vit_b":
        return LOOSE
    iou_QM = PointDecoder(sam, image_1Chw).read(grid(sam, side)).iou_QM
    ordered = iou_QM.flatten().sort().values
    place = int(0.8 * len(ordered))
    gap = place + int((ordered[place : place + 20].diff()).argmax())  # between two values, not on one
    least = float(ordered[gap : gap + 2].mean())
    return {"pred_iou_thresh": least, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


def timed(step: Step, clock: Callable[[], float]) -> tuple[float, Any]:
    """Time one step; return its result too."""
    start = clock()
    result = step()
    return clock() - start, result


def in_turns(steps: Sequence[Step], repeats: int, clock: Callable[[], float]) -> tuple[list[float], list[Any]]:
    """Return the median time and the last result of every side."""
    rounds = [[timed(step, clock) for step in steps] for _ in range(repeats)]
    times = [statistics.median(one[side][0] for one in rounds) for side in range(len(steps))]
    return times, [result for _, result in rounds[-1]]


def matched(ours: Sequence[dict[str, Any]], stock: Sequence[dict[str, Any]]) -> list[float]:
    """Return, for every stock mask, the IoU with our mask of the same point that fits best."""
    by_point: dict[tuple[float, ...], list[np.ndarray]] = {}
    for record in ours:
        by_point.setdefault(tuple(record["point_coords"][0]), []).append(record["segmentation"])
    return [
        max((iou(mask, one["segmentation"]) for mask in by_point.get(tuple(one["point_coords"][0]), [])), default=0.0)
        for one in stock
    ]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two masks; 1 when both are empty."""
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else 1.0


def report(case: str, metric: str, values: Sequence[float], unit: str, goal: str, ok: bool | None) -> None:
    """Print one figure."""
    emit("masks", case, metric, values, unit=unit, goal=goal, ok=ok)


def run_decoder(name: str, sam: Sam, arguments: argparse.Namespace) -> None:
    """Compare the decoders, every mask drawn."""
    point_Q2 = grid(sam, arguments.decoder_side)
    ratios, errors = [], []
    for image in images(sam, arguments.images):
        image_1Chw = embedding(sam, image)
        sides = [partial(side, sam, image_1Chw, point_Q2) for side in (stock_decoder, our_decoder)]
        our_decoder(sam, image_1Chw, point_Q2[:2]), stock_decoder(sam, image_1Chw, point_Q2[:2])
        (theirs, ours), (stock, mine) = in_turns(sides, arguments.repeats, arguments.clock)
        ratios.append(theirs / ours)
        errors.append(float((stock[0] - mine[0]).abs().max()))
    report(f"decoder {name}", "times as fast", ratios, "ratio", ">= 3", statistics.median(ratios) >= 3)
    report(f"decoder {name}", "largest difference of a logit", errors, "logit", "<= 1e-4", max(errors) <= 1e-4)


def run_generate(name: str, sam: Sam, arguments: argparse.Namespace) -> None:
    """Compare the generators."""
    faster: dict[str, list[float]] = {"fp32": [], "bf16": []}
    fits: dict[str, list[float]] = {"fp32": [], "bf16": []}
    counts: dict[str, list[int]] = {"stock": [], "fp32": [], "bf16": []}
    for image in images(sam, arguments.images):
        settings = thresholds(name, sam, embedding(sam, image), arguments.side) | {"points_per_side": arguments.side}
        makers = generators(sam, settings)
        for maker in makers.values() if arguments.warm_up else ():
            maker.generate(image[:64, :64])
        times, results = in_turns(
            [partial(m.generate, image) for m in makers.values()], arguments.repeats, arguments.clock
        )
        print(json.dumps({"seconds": dict(zip(makers, times, strict=True))}), file=sys.stderr)
        counts["stock"].append(len(results[0]))
        for kind, took, records in zip(("fp32", "bf16"), times[1:], results[1:], strict=True):
            faster[kind].append(times[0] / took)
            fits[kind] += matched(records, results[0])
            counts[kind].append(len(records))
    for kind, goal, least in (("fp32", 2.2, 0.999), ("bf16", 2.7, 0.99)):
        case = f"generate {name} {kind}"
        report(case, "times as fast", faster[kind], "ratio", f">= {goal}", statistics.median(faster[kind]) >= goal)
        same = counts[kind] == counts["stock"]
        report(case, "masks", counts[kind], "masks", f"the stock {counts['stock']}", same if kind == "fp32" else None)
        if fits[kind]:
            report(case, "worst matched IoU", [min(fits[kind])], "IoU", f">= {least}", min(fits[kind]) >= least)
            report(case, "median matched IoU", [statistics.median(fits[kind])], "IoU", "", None)


def generators(sam: Sam, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the stock generator and ours in both precisions."""
    return {
        "stock": SamAutomaticMaskGenerator(sam, **settings),
        "fp32": MaskGenerator(sam, **settings),
        "bf16": MaskGenerator(sam, precision="bf16", **settings),
    }


def run_memory(name: str, arguments: argparse.Namespace) -> None:
    """Compare the peak memory of a call, each side in a process of its own."""
    peaks = {}
    for side in ("stock", "fp32"):
        command = [sys.executable, __file__, "--measure", name, side, str(arguments.side)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[side] = float(json.loads(done.stdout))
    ratio = peaks["fp32"] / peaks["stock"]
    case = f"generate {name} fp32"
    report(case, "peak memory against the stock generator's", [ratio], "ratio", "<= 1", ratio <= 1)
    report(case, "peak memory", [peaks["fp32"]], "MB", f"the stock {peaks['stock']:.0f}", None)


def peak_mb(name: str, side: str, points_per_side: int) -> float:
    """Return the peak resident size of a call above the resident size before it."""
    sam = model(name)
    (image,) = images(sam, 1)
    settings = thresholds(name, sam, embedding(sam, image), points_per_side) | {"points_per_side": points_per_side}
    maker = generators(sam, settings)[side]
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = resident_mb("VmRSS")
    maker.generate(image)
    return resident_mb("VmHWM") - before


def resident_mb(field: str) -> float:
    """Read a resident size of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Read the flags and run, or measure one side for a parent process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="vit_mini only, one image, without memory")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--cases", nargs="+", choices=("decoder", "generate", "memory"), default=["decoder", "generate", "memory"]
    )
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=16, help="points along a side of the image")
    parser.add_argument("--decoder-side", type=int, default=8, help="the same for the decoder alone")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, for a machine that others use")
    parser.add_argument("--no-warm-up", dest="warm_up", action="store_false", help="count the first call too")
    parser.add_argument("--measure", nargs=3, metavar="WORD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.clock = time.process_time if arguments.cpu_time else time.perf_counter
    if arguments.quick:
        arguments.models, arguments.cases, arguments.images = ["vit_mini"], ["decoder", "generate"], 1
    with torch.no_grad():
        if arguments.measure:
            name, side, count = arguments.measure
            print(json.dumps(peak_mb(name, side, int(count))))
            return
        for name in arguments.models:
            sam = model(name)
            if "decoder" in arguments.cases:
                run_decoder(name, sam, arguments)
            if "generate" in arguments.cases:
                run_generate(name, sam, arguments)
            if "memory" in arguments.cases:
                run_memory(name, arguments)


if __name__ == "__main__":
    main()
