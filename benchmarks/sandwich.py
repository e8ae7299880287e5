"""What the sandwich step saves against networks trained apart, and the encoder against segment_anything's.

    python benchmarks/sandwich.py [--quick] [--cases sandwich encoder] [--models vit_mini vit_b] [--cpu-time]

Every value is a ratio of two sides measured in turns in one run (A B A B ...), after one step of each that is not
counted: the median of the repeats of each round, then the median over the rounds, with half of their range as spread.

- sandwich MODEL SPACE: one step of the largest, the smallest and two random networks, against the four as plain
  modules of their sizes (torch's layers, the same attention and memory layout), each forward and backward. Random
  networks are drawn anew in every round.
- encoder vit_b: forward and backward of the full network at 512 px against segment_anything's encoder.

Memory is the peak resident size above that before the step, each side in a fresh process (Linux only). `peak` starts
without gradients, so they count; `peak without gradients` starts with gradients in place; `peak with weights` adds the
weights to `peak`. The allocator returns freed tensors at once, on both sides. The sandwich step is held against its
largest network alone, run by the elastic encoder itself, which needs less than the plain module.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import emit
from torch import Tensor, nn

from quatrain.sam.attention import attend
from quatrain.sam.build import image_encoder
from quatrain.sam.registry import SHAPES, SamShape
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.sandwich import sandwich_backward
from quatrain.supernet.space import Space, Subnet, ratio_choices

REMOVABLE = (1, 2, 5, 6, 9)
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
Step = Callable[[], None]


def space(name: str, shape: SamShape) -> Space:
    """`paper`: block 0 is kept full, the others choose among four ratios; `default`: every block chooses among five."""
    full, quarters = shape.hidden, (1 / 4, 1 / 3, 1 / 2, 3 / 4)
    if name == "paper":
        choices = ((full,), *(ratio_choices(full, quarters, multiple=4) for _ in range(shape.depth - 1)))
    else:
        choices = (ratio_choices(full),) * shape.depth
    return Space(
        full=(full,) * shape.depth, choices=choices, removable=REMOVABLE, drop_probability=(0.5,) * len(REMOVABLE)
    )


def networks(space: Space, seed: int) -> list[Subnet]:
    """The largest, the smallest and two random networks."""
    rng = np.random.default_rng(seed)
    return [space.largest(), space.smallest(), space.sample(rng), space.sample(rng)]


class PlainBlock(nn.Module):
    """A stock block whose MLP has the size that it needs, with quatrain's attention."""

    def __init__(self, block: Any, width: int) -> None:
        super().__init__()
        dim = block.norm1.normalized_shape[0]
        self.norm1, self.attn, self.norm2, self.window = block.norm1, block.attn, block.norm2, block.window_size
        self.mlp = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Pass the stream through the block."""
        x = x + self.attn.proj(attend(self.attn.qkv(self.norm1(x)), self.attn, self.window))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PlainPatches(nn.Module):
    """The stock patch embedding, with its channels last in memory as the elastic encoder has them."""

    def __init__(self, patches: nn.Module) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, image: Tensor) -> Tensor:
        """Return the patches of images."""
        out: Tensor = self.patches(image).contiguous()
        return out


def plain(shape: SamShape, subnet: Subnet) -> nn.Module:
    """Return a sub-network as an encoder of its own, made of plain modules."""
    encoder = image_encoder(shape)
    encoder.patch_embed = PlainPatches(encoder.patch_embed)
    encoder.blocks = nn.ModuleList(PlainBlock(encoder.blocks[i], subnet.widths[i]) for i in subnet.kept)
    return encoder


def images(shape: SamShape, batch: int) -> Tensor:
    """Random images, the same on both sides."""
    return torch.randn(batch, 3, shape.image_px, shape.image_px, generator=torch.Generator().manual_seed(1))


def loss(_index: int, _subnet: Subnet, embedding: Tensor) -> Tensor:
    """A loss that costs next to nothing."""
    return embedding.square().mean()


def pass_through(module: nn.Module, image: Tensor, *arguments: Subnet) -> None:
    """Run a module forward and backward, from no gradients."""
    module.zero_grad()
    module(image, *arguments).square().mean().backward()


def sandwich_step(encoder: ElasticEncoder, image: Tensor, subnets: list[Subnet]) -> None:
    """Run one sandwich step, from no gradients."""
    encoder.zero_grad()
    sandwich_backward(encoder, image, subnets, loss)


def seconds(step: Step, clock: Callable[[], float]) -> float:
    """Time one step."""
    start = clock()
    step()
    return clock() - start


def time_ratio(ours: Step, theirs: Step, repeats: int, clock: Callable[[], float]) -> float:
    """Return the median ratio of both sides measured in turns, the first of them alternating."""
    ours(), theirs()
    ratios = []
    for repeat in range(repeats):
        took = {side: seconds(side, clock) for side in ((ours, theirs) if repeat % 2 else (theirs, ours))}
        ratios.append(took[ours] / took[theirs])
    return statistics.median(ratios)


def apart(modules: list[nn.Module], image: Tensor) -> None:
    """Run every module forward and backward; none keeps its gradients beside those of the next."""
    for module in modules:
        pass_through(module, image)
        module.zero_grad()


def sandwich_times(arguments: argparse.Namespace, model: str, name: str) -> list[float]:
    """Return the time of the sandwich step over that of the networks apart, a value a round."""
    shape = dataclasses.replace(SHAPES[model], image_px=256)
    encoder, image = ElasticEncoder(image_encoder(shape), shape), images(shape, arguments.batch[model])
    ratios = []
    for seed in range(arguments.rounds):
        subnets = networks(space(name, shape), seed)
        together = partial(sandwich_step, encoder, image, subnets)
        separate = partial(apart, [plain(shape, subnet) for subnet in subnets], image)
        ratios.append(time_ratio(together, separate, arguments.repeats, arguments.clock))
        encoder.zero_grad()
    return ratios


def encoder_times(arguments: argparse.Namespace) -> list[float]:
    """Return the time of the full network over that of the stock encoder, a value a round."""
    shape = dataclasses.replace(SHAPES["vit_b"], image_px=512)
    theirs, ours, image = image_encoder(shape), ElasticEncoder(image_encoder(shape), shape), images(shape, 1)
    sides = (partial(pass_through, ours, image), partial(pass_through, theirs, image))
    return [time_ratio(*sides, arguments.repeats, arguments.clock) for _ in range(arguments.rounds)]


def side(what: str, model: str, name: str, seed: int, batch: int) -> tuple[nn.Module, Step]:
    """Return the module and the step of one side of a memory measurement."""
    shape = dataclasses.replace(SHAPES[model], image_px=512 if what in ("stock", "full") else 256)
    image, encoder = images(shape, batch), image_encoder(shape)
    if what == "stock":
        return encoder, lambda: encoder(image).square().mean().backward()
    elastic = ElasticEncoder(encoder, shape)
    if what == "full":
        return elastic, lambda: elastic(image).square().mean().backward()
    subnets = networks(space(name, shape), seed)
    if what == "largest":
        return elastic, lambda: elastic(image, subnets[0]).square().mean().backward()
    return elastic, lambda: discard(sandwich_backward(elastic, image, subnets, loss))


def discard(_result: object) -> None:
    """Take a step's result, so that steps return nothing."""


def resident_mb(field: str) -> float:
    """Read a resident size of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def settle() -> None:
    """Give freed memory back and let the peak start anew."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew


def peak_mb(step: Step) -> float:
    """Return the peak resident size of a step above the resident size before it."""
    settle()
    before = resident_mb("VmRSS")
    step()
    return resident_mb("VmHWM") - before


def measure(arguments: list[str]) -> dict[str, float]:
    """Measure one side in this process."""
    what, model, name, seed, batch = arguments
    module, step = side(what, model, name, int(seed), int(batch))
    step()
    module.zero_grad(set_to_none=True)
    peak = peak_mb(step)
    module.zero_grad(set_to_none=False)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters()) / 2**20
    return {"peak": peak, "peak without gradients": peak_mb(step), "peak with weights": peak + weights}


def measure_apart(*words: object) -> dict[str, float]:
    """Measure one side in a fresh process."""
    command = [sys.executable, __file__, "--measure", *map(str, words)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def memory_ratios(
    ours: str, theirs: str, model: str, name: str, seeds: range, batch: int
) -> Iterator[tuple[str, list[float]]]:
    """Yield each metric with its ratios, a value a seed."""
    pairs = [(measure_apart(ours, model, name, s, batch), measure_apart(theirs, model, name, s, batch)) for s in seeds]
    for metric in pairs[0][0] if pairs else ():
        yield metric, [one[metric] / other[metric] for one, other in pairs]


def report(case: str, metric: str, ratios: list[float], goal: float) -> None:
    """Print one figure."""
    emit("sandwich", case, metric, ratios, unit="ratio", goal=f"<= {goal}", ok=statistics.median(ratios) <= goal)


def run(arguments: argparse.Namespace) -> None:
    """Measure the cases asked for."""
    seeds = range(0 if arguments.no_memory else arguments.rounds)
    for model in arguments.models if "sandwich" in arguments.cases else ():
        for name in arguments.spaces:
            case, batch = f"sandwich {model} {name}", arguments.batch[model]
            report(case, "time", sandwich_times(arguments, model, name), 0.95)
            for metric, ratios in memory_ratios("sandwich", "largest", model, name, seeds, batch):
                report(case, metric, ratios, 1.2)
    if "encoder" in arguments.cases:
        report("encoder vit_b", "time", encoder_times(arguments), 0.85)
        for metric, ratios in memory_ratios("full", "stock", "vit_b", "none", seeds, 1):
            report("encoder vit_b", metric, ratios, 0.6)


def main() -> None:
    """Read the flags and run, or measure one side for a parent process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the sandwich step of vit_mini only, one round")
    parser.add_argument("--models", nargs="+", choices=("vit_mini", "vit_b"), default=["vit_mini", "vit_b"])
    parser.add_argument("--cases", nargs="+", choices=("sandwich", "encoder"), default=["sandwich", "encoder"])
    parser.add_argument("--spaces", nargs="+", choices=("paper", "default"), default=["paper", "default"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with two other random networks")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each side in a round")
    parser.add_argument("--batch-mini", type=int, default=4, help="images of 256 px in a vit_mini step")
    parser.add_argument("--batch-b", type=int, default=1, help="images of 256 px in a vit_b step")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, for a machine that others use")
    parser.add_argument("--no-memory", action="store_true", help="time only")
    parser.add_argument("--measure", nargs=5, metavar="WORD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    if arguments.quick:
        arguments.cases, arguments.models = ["sandwich"], ["vit_mini"]
        arguments.rounds, arguments.repeats = 1, 3
    arguments.batch = {"vit_mini": arguments.batch_mini, "vit_b": arguments.batch_b}
    arguments.clock = time.process_time if arguments.cpu_time else time.perf_counter
    run(arguments)


if __name__ == "__main__":
    main()
