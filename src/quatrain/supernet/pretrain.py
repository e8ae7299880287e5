"""Pretraining of the shipped vit_mini from random weights on made micrographs.

    python -m quatrain.supernet.pretrain OUT_DIR

(or `torchrun --nproc-per-node 2 -m quatrain.supernet.pretrain OUT_DIR`) writes vit_mini.pth (the state dict, float32)
and its model card vit_mini.md into OUT_DIR. The first stage uses small images at a quarter of the cost, the others the
real size. An interrupted run continues when it is started again with the same folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from quatrain import checkpoint
from quatrain.data.synthetic import SyntheticImages
from quatrain.data.textures import SEEN
from quatrain.files import append_line, read_lines, write_text
from quatrain.sam.build import build
from quatrain.sam.official import Sam
from quatrain.sam.registry import SamShape, shape
from quatrain.seeding import derive
from quatrain.supernet.config import LossConfig, TrainConfig
from quatrain.supernet.dataset import TrainingItems
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluation import EvalSet, MeanScores, evaluate
from quatrain.supernet.trainer import SamTrainer, StepRecord, fit, join_group

SEED = 20260
HELD_OUT = 200
"""Made images, from another seed, on which the card's figures are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainStage:
    """Training at one image size."""

    image_px: int
    train: TrainConfig


def stages() -> tuple[PretrainStage, ...]:
    """Return the settings of the shipped weights."""
    loss = LossConfig(focal=0.0, entropy=1.0)
    chosen = replace(loss, iou=4.0, others=0.2)  # the last stage also trains the IoU head
    common = TrainConfig(steps=1600, batch=16, prompts=4, lr=1e-3, warmup=100, loss=loss, loaders=1)
    return (
        PretrainStage(image_px=128, train=replace(common, schedule="constant")),
        PretrainStage(image_px=256, train=replace(common, steps=1700, batch=8, prompts=8, lr=7e-4)),
        PretrainStage(image_px=256, train=replace(common, steps=5500, batch=8, prompts=8, lr=8e-4, loss=chosen)),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Pretrain vit_mini into the folder given as the only argument."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        raise SystemExit("usage: python -m quatrain.supernet.pretrain OUT_DIR")
    join_group()
    pretrain(Path(arguments[0]), stages())


def pretrain(folder: Path, plan: Sequence[PretrainStage], held_out: int = HELD_OUT) -> MeanScores:
    """Pretrain in stages, measure on held-out images, and write weights and model card into `folder`."""
    mini = shape("vit_mini")
    model = build(replace(mini, image_px=plan[0].image_px), SEED)
    for number, stage in enumerate(plan):
        size = replace(mini, image_px=stage.image_px)
        grown = build(size, SEED)
        grown.load_state_dict(resized(model.state_dict(), grown.state_dict()))
        grown.image_encoder = ElasticEncoder(grown.image_encoder, size)
        _train(folder, number, stage, grown, size)
        model = grown
    eval_set = EvalSet.of(
        SyntheticImages(count=held_out, seed=SEED + 1, size_px=size.image_px),
        range(held_out),
        image_px=size.image_px,
        seed=SEED,
    )
    scores = evaluate(model, model.image_encoder, eval_set)
    checkpoint.save(folder / "vit_mini.pth", dict(model.state_dict()))
    write_text(folder / "vit_mini.md", _card(plan, scores, _seconds(folder), model))
    return scores


def _train(folder: Path, number: int, stage: PretrainStage, model: Sam, size: SamShape) -> None:
    config = stage.train
    images = SyntheticImages(
        count=config.steps * config.batch, seed=derive(SEED, "stage", number), size_px=size.image_px
    )
    items = TrainingItems(
        images=images,
        indices=range(len(images)),
        image_px=size.image_px,
        logits_px=4 * size.grid,
        prompts=config.prompts,
        seed=SEED,
    )

    def report(step: int, done: StepRecord) -> None:
        loss = done["losses"]["full"]
        append_line(
            folder / "pretrain.jsonl", {"stage": number, "step": step, "loss": loss, "seconds": done["seconds"]}
        )
        if step % 20 == 0 or step == config.steps:
            print(f"{time.strftime('%H:%M:%S')} stage {number} step {step}/{config.steps} loss {loss:.3f}", flush=True)

    fit(SamTrainer(model, config, SEED), items, folder / f"stage-{number}.pt", report)


def resized(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with positions, absolute (1, h, w, C) and relative (2 n - 1, c), interpolated to other sizes."""
    fitted = {}
    for name, value in state.items():
        target = wanted[name].shape
        if value.shape == target:
            fitted[name] = value
        elif name.endswith("pos_embed"):
            grid = functional.interpolate(value.permute(0, 3, 1, 2), target[1:3], mode="bicubic", align_corners=False)
            fitted[name] = grid.permute(0, 2, 3, 1)
        else:
            fitted[name] = functional.interpolate(value.T[None], target[0], mode="linear")[0].T
    return fitted


def _seconds(folder: Path) -> float:
    lines = {(line["stage"], line["step"]): line["seconds"] for line in read_lines(folder / "pretrain.jsonl")}
    return float(sum(lines.values()))


def _card(plan: Sequence[PretrainStage], scores: MeanScores, seconds: float, model: torch.nn.Module) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    mini = shape("vit_mini")
    steps = "; ".join(
        f"{s.train.steps} steps of {s.train.batch} images at {s.image_px} px, {s.train.prompts} prompts each"
        for s in plan
    )
    images = sum(s.train.steps * s.train.batch for s in plan)
    return f"""# vit_mini

A miniature Segment Anything Model for laptops, tests and first steps. Not for science.

| | |
|---|---|
| classes | segment_anything's own |
| encoder | {mini.depth} blocks of width {mini.embed_dim}, global attention in {mini.global_blocks} |
| input | {mini.image_px} x {mini.image_px} px, patches of {mini.patch_px} px |
| parameters | {parameters:,} |
| data | {images:,} made micrographs of {", ".join(SEEN)}; seed {SEED} |
| training | {steps} |
| time | {seconds:.0f} s on two shared CPU cores |
| held out | {scores.images} made images, {scores.objects} objects, seed {SEED + 1}, one foreground point each |
| mIoU, best of three masks | {scores.miou_oracle:.3f} |
| mIoU, mask chosen by predicted IoU | {scores.miou_chosen:.3f} |
| command | `python -m quatrain.supernet.pretrain OUT_DIR` |
| licence | that of quatrain (BSD-3-Clause); no data of others went in |
"""


if __name__ == "__main__":
    main()
