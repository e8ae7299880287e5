"""Make the shipped vit_mini: pretraining from random weights on made micrographs.

    python -m quatrain.supernet.pretrain OUT_DIR

writes vit_mini.pth (the state dict, float32) and its model card vit_mini.md into OUT_DIR. A run that was
interrupted continues when it is started again with the same folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from quatrain import checkpoint
from quatrain.data.made import MadeImages
from quatrain.data.textures import SEEN
from quatrain.records import append_line, read_lines, write_text
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.evaluate import Exam, Scores, evaluate
from quatrain.supernet.items import TrainingItems
from quatrain.supernet.models import build
from quatrain.supernet.settings import TrainConfig
from quatrain.supernet.shapes import shape
from quatrain.supernet.train import Step, Trainer, fit

SEED = 20260
HELD_OUT = 200
"""Made images, from another seed, on which the card's figures are measured."""


def pretraining() -> TrainConfig:
    """Return the settings that made the shipped weights."""
    return TrainConfig(steps=5000, batch=8, prompts=8, lr=8e-4, warmup=200, save_every_s=120, loaders=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Pretrain vit_mini into the folder given as the only argument."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        raise SystemExit("usage: python -m quatrain.supernet.pretrain OUT_DIR")
    pretrain(Path(arguments[0]), pretraining())


def pretrain(folder: Path, config: TrainConfig, held_out: int = HELD_OUT) -> Scores:
    """Pretrain, measure on held-out images, and write weights and model card into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    mini = shape("vit_mini")
    images = MadeImages(count=config.steps * config.batch, seed=SEED, size_px=mini.image_px)
    items = TrainingItems(
        images=images,
        indices=range(len(images)),
        image_px=mini.image_px,
        logits_px=4 * mini.grid,
        prompts=config.prompts,
        seed=SEED,
    )
    model = build(mini, SEED)
    model.image_encoder = ElasticEncoder(model.image_encoder, mini)
    trainer = Trainer(model, config, SEED)
    log = folder / "pretrain.jsonl"

    def report(step: int, done: Step) -> None:
        append_line(log, {"step": step, "loss": done["losses"]["full"], "seconds": done["seconds"]})
        if step % 20 == 0 or step == config.steps:
            print(
                f"{time.strftime('%H:%M:%S')} step {step}/{config.steps} loss {done['losses']['full']:.3f}", flush=True
            )

    fit(trainer, items, folder / "pretrain.pt", report)
    exam = Exam.of(MadeImages(count=held_out, seed=SEED + 1), range(held_out), image_px=mini.image_px, seed=0)
    scores = evaluate(trainer.model, trainer.model.image_encoder, exam)
    checkpoint.save(folder / "vit_mini.pth", trainer.model.state_dict())
    seconds = sum(line["seconds"] for line in read_lines(log))
    write_text(folder / "vit_mini.md", _card(config, scores, seconds, trainer.model))
    return scores


def _card(config: TrainConfig, scores: Scores, seconds: float, model: torch.nn.Module) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    mini = shape("vit_mini")
    return f"""# vit_mini

A miniature Segment Anything Model for laptops, tests and first steps. Not for science.

| | |
|---|---|
| classes | segment_anything's own |
| encoder | {mini.depth} blocks of width {mini.embed_dim}, global attention in {mini.global_blocks} |
| input | {mini.image_px} x {mini.image_px} px, patches of {mini.patch_px} px |
| parameters | {parameters:,} |
| data | {config.steps * config.batch:,} made micrographs of {", ".join(SEEN)}; seed {SEED}, each seen once |
| training | {config.steps} steps of {config.batch} images, {config.prompts} prompts; {seconds:.0f} s on one CPU core |
| held out | {scores.images} made images, {scores.objects} objects, seed {SEED + 1}, one foreground point each |
| mIoU, best of three masks | {scores.miou_oracle:.3f} |
| mIoU, mask chosen by predicted IoU | {scores.miou_chosen:.3f} |
| made by | `python -m quatrain.supernet.pretrain OUT_DIR` |
| licence | that of quatrain (BSD-3-Clause); no data of others went in |
"""


if __name__ == "__main__":
    main()
