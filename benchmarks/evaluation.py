"""What evaluating one sub-network costs, and what the pieces around it save.

    python benchmarks/evaluation.py [--quick] [--cases prefix whole latency onnx] [--cpu-time]

Ratios are of two sides measured in turns in one run (A B A B ...), each after a run that is not counted, and with
--cpu-time in seconds of the processor, for a machine that others use (with one thread); a value is
the median over the repeats of a network, then the mean over networks, with half of their range as spread.

- prefix: evaluations of random networks of a space whose block 0 is full in all of them, with what they share of each
  image kept on disk, against without it. vit_b's shapes with random weights at a smaller image (--image-px), because a
  processor takes minutes at 1024 px. Scores have to be equal to the bit.
- whole: the whole evaluation of networks on vit_mini, against the same networks with segment_anything's decoder, one
  image at a time, and masks compared at full size. Figures may differ by rounding alone.
- latency: a latency table's prediction for random networks timed whole, on vit_mini.
- onnx: one image through encoder and decoder in onnxruntime against torch, for a small net of vit_mini.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lines import emit
from torch import Tensor

from quatrain.data.open import open_images
from quatrain.nas.config import PAPER_REMOVABLE
from quatrain.sam.batched_decoder import upsample
from quatrain.sam.build import build, load_mini
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape, shape
from quatrain.supernet import onnx_export
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import EvalImage, EvalSet, Evaluator, image_batches
from quatrain.supernet.extract import extract, save
from quatrain.supernet.latency import Timing, calibrate
from quatrain.supernet.prefix_cache import Prefix, PrefixStore
from quatrain.supernet.space import Space, Subnet, ratio_choices

NAME = "evaluation"


def paper_space(sam: SamShape) -> Space:
    """SuperSAM's space in proportion: block 0 full, the others a quarter to three quarters."""
    widths = ratio_choices(sam.hidden, (1 / 4, 1 / 3, 1 / 2, 3 / 4), multiple=4)
    return Space(
        full=full_subnet(sam).widths,
        choices=((sam.hidden,), *((widths,) * (sam.depth - 1))),
        removable=PAPER_REMOVABLE,
        drop_probability=(0.5,) * len(PAPER_REMOVABLE),
    )


def networks(space: Space, count: int) -> list[Subnet]:
    """Random networks, the same in every run."""
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


def mini() -> Sam:
    """The shipped miniature with an elastic encoder."""
    sam = load_mini()
    sam.image_encoder = ElasticEncoder(sam.image_encoder, shape("vit_mini"))
    return sam.eval()


def synthetic(image_px: int, count: int) -> EvalSet:
    """Made images of materials that the miniature never saw."""
    images = open_images("made:unseen", size_px=image_px, seed=1, count=count)
    return EvalSet.of(images, range(count), image_px=image_px, seed=3)


def prefix(asked: argparse.Namespace) -> None:
    """Evaluate with and without what networks share kept."""
    sam_shape = dataclasses.replace(shape("vit_b"), image_px=asked.image_px)
    sam = build(sam_shape, seed=0)
    sam.image_encoder = ElasticEncoder(sam.image_encoder, sam_shape)
    space, eval_set = paper_space(sam_shape), synthetic(asked.image_px, asked.images_b)
    shared, plain = Prefix.of(space), Evaluator(sam, eval_set)
    with tempfile.TemporaryDirectory() as folder:
        store = PrefixStore(folder=Path(folder), prefix=shared.fingerprint(sam.image_encoder))
        quick = Evaluator(sam, eval_set, prefix=shared, store=store)
        ratios, equal = [], True
        for subnet in networks(space, asked.nets_b):
            equal &= plain.score(subnet) == quick.score(subnet)
            with_it, without = times(asked, lambda n=subnet: quick.score(n), lambda n=subnet: plain.score(n))
            ratios.append(without / with_it)
    case = f"vit_b {asked.image_px} px, block 0 fixed"
    middle = statistics.median(ratios)
    emit(NAME, case, "speed-up by the kept prefix", ratios, unit="ratio", goal=">= 1.15", ok=middle >= 1.15)
    emit(NAME, case, "scores equal to the bit", [float(equal)], unit="share", goal="1", ok=equal)


def whole(asked: argparse.Namespace) -> None:
    """Evaluate as it is done now and as it reads."""
    sam, eval_set = mini(), synthetic(256, asked.images)
    space = paper_space(shape("vit_mini"))
    shared = Prefix.of(space)
    ratios, only, differences = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        store = PrefixStore(folder=Path(folder), prefix=shared.fingerprint(sam.image_encoder))
        quick = Evaluator(sam, eval_set, prefix=shared, store=store)
        plain = Evaluator(sam, eval_set)
        for subnet in networks(space, asked.nets):
            scores, read = plain.score(subnet), as_it_reads(sam, eval_set, subnet)
            differences.append(abs(scores.mean.miou_oracle - read) + (scores != quick.score(subnet)))
            new, without, old = times(
                asked,
                lambda n=subnet: quick.score(n),
                lambda n=subnet: plain.score(n),
                lambda n=subnet: as_it_reads(sam, eval_set, n),
            )
            ratios.append(old / new)
            only.append(old / without)
    case = "vit_mini, whole evaluation"
    emit(NAME, case, "speed-up", ratios, unit="ratio", goal=">= 1.15", ok=statistics.median(ratios) >= 1.15)
    emit(NAME, case, "speed-up without the kept prefix", only, unit="ratio", goal="", ok=None)
    worst = max(differences)
    emit(NAME, case, "largest difference of mIoU", [worst], unit="mIoU", goal="<= 1e-4", ok=worst <= 1e-4)


@torch.inference_mode()
def as_it_reads(sam: Sam, eval_set: EvalSet, subnet: Subnet) -> float:
    """Mean best-of-three IoU by segment_anything's decoder and masks at full size."""
    found: list[float] = []
    for pixels, images in image_batches(sam, eval_set, batch=8):
        for image, embedding in zip(images, sam.image_encoder(pixels, subnet), strict=True):
            found += full_size_ious(sam, embedding, image).amax(dim=1).tolist()
    return float(np.mean(found))


def full_size_ious(sam: Sam, embedding_Chw: Tensor, image: EvalImage) -> Tensor:
    """IoU of the three candidates of every prompt, counted at full size."""
    points = torch.from_numpy(image.points)[:, None]
    foreground = torch.ones(len(points), 1, dtype=torch.int32)
    sparse, dense = sam.prompt_encoder(points=(points, foreground), boxes=None, masks=None)
    logits, _ = sam.mask_decoder.predict_masks(embedding_Chw[None], sam.prompt_encoder.get_dense_pe(), sparse, dense)
    height, width = image.prepared.valid_hw
    masks = upsample(logits[None, :, 1:], image.prepared.image_CHW.shape[-1])[0, ..., :height, :width] > 0
    truth = torch.from_numpy(image.prepared.masks_NSS[:, None, :height, :width])
    return (masks & truth).sum(dim=(2, 3)) / (masks | truth).sum(dim=(2, 3)).clamp(min=1)


def latency(asked: argparse.Namespace) -> None:
    """Hold a latency table against networks timed whole."""
    sam, space = mini(), paper_space(shape("vit_mini"))
    timing = Timing(warmup=2, repeats=asked.passes)
    table = calibrate(sam.image_encoder, space, timing, check=networks(space, asked.checks))
    errors = [100 * abs(check["error"]) for check in table["checks"]]
    emit(NAME, "vit_mini, latency table", "error for random networks", errors, unit="%", goal="", ok=None)


def onnx_times(asked: argparse.Namespace) -> None:
    """Time an exported network."""
    sam, mini_shape = mini(), shape("vit_mini")
    subnet = networks(paper_space(mini_shape), 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.pth"
        save(path, extract(sam, sam.image_encoder, subnet), mini_shape, subnet)
        record = onnx_export.export(path, Path(folder) / "onnx", Timing(warmup=3, repeats=asked.passes))
    for name in ("encoder", "decoder"):
        ms, worst = record[name]["latency_ms"], max(record[name]["difference"].values())
        case = f"vit_mini {subnet.key}, {name} in onnxruntime"
        emit(NAME, case, "time against torch", [ms["onnxruntime"] / ms["torch"]], unit="ratio", goal="", ok=None)
        emit(NAME, case, "time", [ms["onnxruntime"]], unit="ms", goal="", ok=None)
        emit(NAME, case, "difference from torch", [worst], unit="", goal="<= 1e-4", ok=worst <= 1e-4)


def times(asked: argparse.Namespace, *sides: Callable[[], object]) -> list[float]:
    """Median seconds of each side, in turns; every side has run before, when results were compared."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(asked.repeats):
        for side, own in zip(sides, taken, strict=True):
            began = asked.clock()
            side()
            own.append(asked.clock() - began)
    return [statistics.median(own) for own in taken]


CASES = {"prefix": prefix, "whole": whole, "latency": latency, "onnx": onnx_times}


def main() -> None:
    """Read the flags and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer networks, images and repeats")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--image-px", type=int, default=512, help="image side of the vit_b case")
    parser.add_argument("--images-b", type=int, default=2, help="images of the vit_b case")
    parser.add_argument("--nets-b", type=int, default=4, help="random networks of the vit_b case")
    parser.add_argument("--images", type=int, default=16, help="images of the vit_mini cases")
    parser.add_argument("--nets", type=int, default=4, help="random networks of the vit_mini cases")
    parser.add_argument("--checks", type=int, default=8, help="networks that the latency table is held against")
    parser.add_argument("--repeats", type=int, default=3, help="timed evaluations of each side")
    parser.add_argument("--passes", type=int, default=15, help="timed passes of one image")
    parser.add_argument("--cpu-time", action="store_true", help="time evaluations by the processor's clock")
    asked = parser.parse_args()
    asked.clock = time.process_time if asked.cpu_time else time.perf_counter
    if asked.quick:
        asked.image_px, asked.images_b, asked.nets_b, asked.images, asked.nets = 256, 1, 2, 8, 2
        asked.checks, asked.repeats, asked.passes = 3, 3, 7
    for case in asked.cases:
        CASES[case](asked)


if __name__ == "__main__":
    main()
