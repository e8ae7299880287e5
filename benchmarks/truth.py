"""Every network of a small space on every image: the truth that benchmarks/search.py holds searches against.

    python benchmarks/truth.py [--out benchmarks/search_truth.npz] [--train-steps 160] [--images 24]

Trains a supernet of the shipped vit_mini in a folder beside the table (as `quatrain nas` does, and resumed when it is
there), then measures all 864 networks of a space with five removable blocks and three widths of three others. The
table has the sum of the objects' IoU (best of three masks) of every network on every validation image, so that any
stretch of images can be looked up.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quatrain.files import read_json, replacing, write_json
from quatrain.nas import stages
from quatrain.nas.config import NasConfig, SpaceConfig, mini
from quatrain.nas.study import NasStudy
from quatrain.search.neighbours import options
from quatrain.supernet.cost import encoder_parameters
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import candidate_ious, network_input
from quatrain.supernet.space import Space, Subnet

OUT = Path(__file__).parent / "search_truth.npz"
ELASTIC = (0, 7, 10)
SMALL = SpaceConfig(widths=(96, 192, 384), fixed_blocks=tuple(set(range(12)) - set(ELASTIC)), removable=(1, 3, 5, 6, 9))
SEED = 0


def configuration(train_steps: int) -> NasConfig:
    """Return a small study with 24 validation images."""
    train = replace(mini().train, steps=max(1, train_steps))
    return replace(
        mini(), images=96, parts=(2.0, 1.0, 1.0), few_shot_images=16, max_objects=8, space=SMALL, train=train
    )


def trained(folder: Path, train_steps: int) -> NasStudy:
    """Return the study with its supernet; with no steps at all, the pretrained net with its channels sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "checkpoints" / "start.pt").exists():
        stages.prepare(str(folder), configuration(train_steps), SEED)
    if train_steps:
        command = [sys.executable, "-m", "quatrain.nas.train", str(folder), "--role", "supernet"]
        subprocess.run(command, check=True)
    return NasStudy.read(folder)


def networks(encoder: ElasticEncoder, space: Space, image_B3SS: Tensor) -> Iterator[tuple[Subnet, Tensor]]:
    """Yield every network with its embeddings; what networks share of the leading blocks is computed once."""

    def grow(widths: tuple[int, ...], x_BHWC: Tensor) -> Iterator[tuple[Subnet, Tensor]]:
        block = len(widths)
        if block == space.depth:
            yield Subnet(widths=widths), encoder.readout(x_BHWC)
            return
        kept = tuple(width for width in options(space, block) if width)
        if block in space.removable:
            yield from grow((*widths, 0), x_BHWC)
        for width, stream in zip(kept, encoder.block(block, x_BHWC, kept), strict=True):
            yield from grow((*widths, width), stream)

    return grow((), encoder.embed(image_B3SS))


@torch.inference_mode()
def column(folder: Path, weights: str, place: int) -> None:
    """Write, for one validation image, every network's summed IoU; an image that is done already is left alone."""
    path = folder / f"truth-{weights}-{place}.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    study = NasStudy.read(folder)
    sam, image = study.network(weights), study.eval_set("validation").images[place]  # type: ignore[arg-type]
    rows = {}
    for subnet, embedding in networks(sam.image_encoder, study.known_space(), network_input(sam, [image])):
        ious, _ = candidate_ious(sam, embedding[0], image)
        rows[subnet.key] = float(ious.amax(dim=1).sum())
    write_json(path, {"objects": len(image.points), "iou": rows})
    print(f"image {place} done", file=sys.stderr, flush=True)


def measure(study: NasStudy, weights: str, count: int, processes: int) -> dict[str, np.ndarray]:
    """Return keys (N,), parameters (N,), summed IoU (N, images) and the number of objects of every image."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(column, [(study.folder, weights, place) for place in range(count)], chunksize=1)
    columns = [read_json(study.folder / f"truth-{weights}-{place}.json") for place in range(count)]
    keys = sorted(columns[0]["iou"])
    return {
        "keys": np.array(keys),
        "params": np.array([encoder_parameters(study.sam, Subnet.parse(key)) for key in keys]),
        "iou": np.array([[found["iou"][key] for found in columns] for key in keys], np.float32),
        "objects": np.array([found["objects"] for found in columns]),
    }


def main() -> None:
    """Train, measure, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--folder", type=Path, default=Path("runs") / "search-truth", help="where the supernet is")
    parser.add_argument("--train-steps", type=int, default=160)
    parser.add_argument("--images", type=int, default=24, help="of the 24")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    study = trained(asked.folder, asked.train_steps)
    table = measure(study, "supernet" if asked.train_steps else "start", asked.images, asked.processes)
    with replacing(asked.out) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **table)


if __name__ == "__main__":
    main()
