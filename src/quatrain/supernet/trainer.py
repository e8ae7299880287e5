"""Training of a SAM's encoder and mask decoder: one network alone, or a supernet by the sandwich rule.

A step depends on the weights, the optimiser, the step's number, the seed and the data, on nothing else. A run that was
killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from quatrain import checkpoint
from quatrain.sam.batched_decoder import decode, normalise
from quatrain.sam.official import Sam
from quatrain.seeding import numpy_rng
from quatrain.supernet.config import TrainConfig
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.dataset import Item, TrainingItems
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.losses import distillation, sam_loss
from quatrain.supernet.sandwich import sandwich_backward
from quatrain.supernet.space import Space, Subnet

Report = Callable[[int, "StepRecord"], None]
"""Called after each step with the number of finished steps and the step's record."""
StepRecord = dict[str, Any]
"""A step's learning rate ("lr"), wall seconds ("seconds") and loss by network ("losses")."""


class SamTrainer:
    """A model, its optimiser and the number of finished steps.

    With a `space`, every step trains the full, the smallest and some random networks (sandwich rule: US-Nets,
    section 3; BigNAS, section 3.1). With a sub-network in its place it trains
    that one alone; with None, the full network.
    """

    def __init__(self, model: Sam, config: TrainConfig, seed: int, space: Space | Subnet | None = None) -> None:
        if not isinstance(model.image_encoder, ElasticEncoder):
            raise TypeError(f"the encoder is a {type(model.image_encoder).__name__}; train an ElasticEncoder")
        self.model, self.config, self.seed, self.space = model, config, seed, space
        self.encoder: ElasticEncoder = model.image_encoder
        self.encoder.checkpointing = config.recompute
        self.step = 0
        model.prompt_encoder.requires_grad_(False)
        self.optimizer = self._fresh_optimizer()

    def _fresh_optimizer(self) -> torch.optim.AdamW:
        decayed = [p for p in self._trained() if p.ndim > 1]
        others = [p for p in self._trained() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.lr)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def networks(self, step: int) -> dict[str, Subnet]:
        """Return the networks that `step` trains, by name, the largest first."""
        if self.space is None:
            return {"full": full_subnet(self.encoder.shape)}
        if isinstance(self.space, Subnet):
            return {"found": self.space}
        rng = numpy_rng(self.seed, "networks", step)
        drawn = {f"random {i + 1}": self.space.sample(rng) for i in range(self.config.random_nets)}
        full = Subnet(widths=self.space.full)  # the teacher, even if the space offers only narrower blocks
        return {"largest": full, "smallest": self.space.smallest(), **drawn}

    def update(self, item: Item) -> dict[str, float]:
        """Train one step on this process's share of a batch; return the loss of each network."""
        nets = self.networks(self.step)
        item = {name: value.to(self.model.device, non_blocking=True) for name, value in item.items()}
        if self.config.rule == "paper":
            losses = [self._apart(item, net) for net in nets.values()]
        else:
            losses = self._backward(item, list(nets.values()))
            self._descend(self.optimizer)
        self.step += 1
        return dict(zip(nets, losses, strict=True))

    def _apart(self, item: Item, net: Subnet) -> float:
        """Update for one network with an optimiser of its own, as SuperSAM's code does."""
        (loss,) = self._backward(item, [net])
        self._descend(self._fresh_optimizer())
        return loss

    def _backward(self, item: Item, nets: Sequence[Subnet]) -> list[float]:
        for parameter in self._trained():
            parameter.grad = None
        image = normalise(self.model, item["image"], item["valid"])
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.config.amp):
            return sandwich_backward(self.encoder, image, nets, SandwichLoss(self.model, item, self.config))

    def _descend(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        _average_gradients(self._trained())
        torch.nn.utils.clip_grad_norm_(self._trained(), self.config.clip)
        optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on; sampler and schedule follow from the step's number."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seed": self.seed,
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state()` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seed = state["step"], state["seed"]
        torch.set_rng_state(state["rng"].cpu())


class SandwichLoss:
    """The loss of each network of a step; the first is the teacher of the others (AlphaNet, in-place distillation)."""

    def __init__(self, model: Sam, item: Item, config: TrainConfig) -> None:
        self._model, self._item, self._config = model, item, config
        self._teacher: Tensor | None = None

    def __call__(self, member: int, _net: Subnet, embedding_BChw: Tensor) -> Tensor:
        """Return the scalar loss of the network at position `member` of the step."""
        with torch.autocast(embedding_BChw.device.type, enabled=False):
            logits, iou = decode(self._model, embedding_BChw.float(), self._item["points"])
            loss = sam_loss(logits, iou, self._item["truth"], self._config.loss)
            if member == 0:
                self._teacher = logits.detach()
            elif self._config.distill and self._teacher is not None:
                distilled = distillation(logits, self._teacher, self._config.loss)
                loss = (1 - self._config.distill) * loss + self._config.distill * distilled
        return loss


def _average_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Average gradients over the processes.

    DistributedDataParallel reduces in every backward pass, and a sandwich step has many. So the mean is taken once,
    after all of them, in one flat message. The largest network touches every parameter.
    """
    if not distributed.is_initialized():
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def batches(items: TrainingItems, config: TrainConfig, start: int, rank: int = 0, ranks: int = 1) -> Iterator[Item]:
    """Yield this process's share of the batches of the steps from `start` to the last.

    Raise ValueError when the batch cannot be shared equally among `ranks` processes.
    """
    if config.batch % ranks:
        raise ValueError(f"batch is {config.batch}; it must be a multiple of the {ranks} processes")
    share = config.batch // ranks
    firsts = (step * config.batch + rank * share for step in range(start, config.steps))
    stream = [first + place for first in firsts for place in range(share)]
    own = torch.Generator()  # the loader would draw from the global generator, once more in a resumed run
    yield from DataLoader(items, share, sampler=stream, num_workers=config.loaders, generator=own)


def fit(trainer: SamTrainer, items: TrainingItems, path: Path, report: Report) -> None:
    """Train to the last step; `path` is the latest checkpoint, from which a killed run resumes.

    In a process group, rank 0 saves and reports.
    """
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    if path.exists():
        trainer.restore(checkpoint.load(path))
    saved = began = time.monotonic()
    trainer.model.train()
    for item in batches(items, trainer.config, trainer.step, rank, ranks):
        losses = trainer.update(item)
        now = time.monotonic()
        if rank == 0:
            rate = trainer.config.rate(trainer.step - 1)
            report(trainer.step, {"lr": rate, "seconds": now - began, "losses": losses})
            if now - saved > trainer.config.save_every_s:
                checkpoint.save(path, trainer.state())
                saved = time.monotonic()
        began = time.monotonic()
    trainer.model.eval()
    if rank == 0:
        checkpoint.save(path, trainer.state())


def join_group() -> torch.device:
    """Join torchrun's process group if there is one; return this process's device."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
