"""Training of a SAM's encoder and mask decoder: one network alone, or a supernet by the sandwich rule.

Start it by hand on any number of processes:

    torchrun --nproc-per-node 4 -m quatrain.supernet.train RUN_DIR --role sandwich

The state after a step depends on the step number, the seed and the data alone, so that a run that was killed and
resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from quatrain import checkpoint
from quatrain.sam import Sam
from quatrain.supernet.decode import decode, normalise
from quatrain.supernet.items import Item, TrainingItems
from quatrain.supernet.losses import sam_loss
from quatrain.supernet.settings import TrainConfig


class Trainer:
    """A model, its optimiser and its place in the stream of images."""

    def __init__(self, model: Sam, config: TrainConfig) -> None:
        self.model, self.config, self.step = model, config, 0
        model.prompt_encoder.requires_grad_(False)
        decayed = [p for p in self._trained() if p.ndim > 1]
        others = [p for p in self._trained() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def update(self, item: Item) -> float:
        """Do one step on a batch and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(item)
        torch.nn.utils.clip_grad_norm_(self._trained(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        return loss

    def _backward(self, item: Item) -> float:
        image = normalise(self.model, item["image"], item["valid"])
        loss = self._loss(self.model.image_encoder(image), item)
        loss.backward()
        return float(loss.detach())

    def _loss(self, embedding_BChw: Tensor, item: Item) -> Tensor:
        logits, iou = decode(self.model, embedding_BChw, item["points"])
        return sam_loss(logits, iou, item["truth"], self.config.loss)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that `state()` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        torch.set_rng_state(state["rng"])


def batches(items: TrainingItems, config: TrainConfig, start: int) -> Iterator[Item]:
    """Yield the batches of the steps from `start` to the last."""
    stream = range(start * config.batch, config.steps * config.batch)
    loader = DataLoader(items, config.batch, sampler=stream, num_workers=config.loaders)
    yield from loader


def fit(trainer: Trainer, items: TrainingItems, path: Path, report: Callable[[int, float, float], None]) -> None:
    """Train to the last step; `path` holds the latest checkpoint, from which a killed run continues.

    `report(step, loss, seconds)` is told after every step.
    """
    if path.exists():
        trainer.restore(checkpoint.load(path))
    saved = time.monotonic()
    trainer.model.train()
    for item in batches(items, trainer.config, trainer.step):
        began = time.monotonic()
        loss = trainer.update(item)
        report(trainer.step, loss, time.monotonic() - began)
        if time.monotonic() - saved > trainer.config.save_every_s:
            checkpoint.save(path, trainer.state())
            saved = time.monotonic()
    trainer.model.eval()
    checkpoint.save(path, trainer.state())
