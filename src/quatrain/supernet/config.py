"""Settings of a training. Nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """How the parts of the loss add up."""

    dice: float = 1.0
    """Weight of the Dice loss."""
    focal: float = 20.0
    """Weight of the focal loss; SAM mixes 20 to 1 (Segment Anything, section 3), SuperSAM's code takes Dice alone."""
    entropy: float = 0.0
    """Weight of the plain binary cross-entropy, which starts networks that know nothing yet."""
    iou: float = 1.0
    """Weight of the IoU head's squared error; 0 leaves the head as it is."""
    others: float = 0.0
    """Share of the candidates' loss that goes to all three of them, not to the best alone (the relaxed
    winner-takes-all of Rupprecht et al. 2017, section 3.2): masks chosen by predicted IoU gain."""
    single_mask_only: bool = False
    """Supervise the single-mask token alone, as SuperSAM's code does; otherwise the best of the three too."""

    def __post_init__(self) -> None:
        for name in ("dice", "focal", "entropy", "iou"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a weight must be at least 0")
        if not 0 <= self.others <= 1:
            raise ValueError(f"others is {self.others}; it must lie between 0 and 1")
        if self.dice == self.focal == self.entropy == 0:
            raise ValueError("dice, focal and entropy are all 0; one must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How networks are trained; the full net that is compared gets the same steps and images as the supernet."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 8
    """Images a step, over all processes."""
    prompts: int = 4
    """Prompted objects an image."""
    lr: float = 3e-4
    """Highest learning rate."""
    weight_decay: float = 0.05
    """AdamW's weight decay, on matrices only."""
    warmup: int = 20
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the learning rate does after the warm-up."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    rule: Literal["canonical", "paper"] = "canonical"
    """Sandwich rule: gradients of all nets in one step (US-Nets, BigNAS), or one update a net (SuperSAM's code)."""
    random_nets: int = 2
    """Random networks a step, beside the largest and the smallest."""
    distill: float = 0.5
    """Share of the smaller nets' loss that is learnt from the largest net's masks (in-place distillation)."""
    amp: bool = False
    """Run the encoder in bfloat16."""
    recompute: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations (gradient checkpointing)."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The parts of the loss."""
    save_every_s: float = 60.0
    """Seconds between checkpoints."""
    loaders: int = 0
    """Processes that prepare images; 0 prepares them in the training process."""
    processes: int = 0
    """Training processes on a computer; 0: one a GPU, or without any one a core, as far as they share a batch."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("warmup", "random_nets", "loaders", "processes", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill is {self.distill}; it must lie between 0 and 1")

    def ranks(self, devices: int) -> int:
        """Return how many processes train on a computer with `devices` GPUs, or cores where it has none.

        One thread a process: small networks lose more by waiting for the threads of each operation than they gain.
        """
        return self.processes or max(n for n in range(1, max(1, devices) + 1) if self.batch % n == 0)

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`; a cosine ends at a fiftieth of the highest."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
