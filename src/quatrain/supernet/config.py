"""Settings of a training run, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Weights of the parts of the loss."""

    dice: float = 1.0
    """Weight of the Dice loss."""
    focal: float = 20.0
    """Weight of the focal loss; SAM uses 20 to 1 (Segment Anything, section 3), SuperSAM's code Dice alone."""
    entropy: float = 0.0
    """Weight of the plain binary cross-entropy, for training from random weights."""
    iou: float = 1.0
    """Weight of the IoU head's squared error; 0 does not train the head."""
    others: float = 0.0
    """Share of the candidates' loss on all three of them instead of the best alone (relaxed winner-takes-all, Rupprecht
    et al. 2017, section 3.2). It improves masks chosen by predicted IoU."""
    single_mask_only: bool = False
    """Supervise the single-mask token alone, as SuperSAM's code does; otherwise also the best candidate."""

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
    """How networks are trained; the fine-tuned full net gets the same steps and images as the supernet."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 8
    """Images per step, over all processes."""
    prompts: int = 4
    """Prompted objects per image."""
    lr: float = 3e-4
    """Highest learning rate."""
    weight_decay: float = 0.05
    """AdamW's weight decay, on matrices only."""
    warmup: int = 20
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    rule: Literal["canonical", "paper"] = "canonical"
    """Sandwich rule: gradients of all nets in one step (US-Nets, BigNAS), or one update per net (SuperSAM's code)."""
    random_nets: int = 2
    """Random networks per step, beside the largest and the smallest."""
    distill: float = 0.5
    """Share of the smaller nets' loss against the largest net's masks (in-place distillation)."""
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
    """Training processes per node; 0: one per GPU, or per core without GPUs, as many as divide the batch."""

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
        """Return the number of training processes on a node with `devices` GPUs, or cores if it has no GPU.

        Each process has one thread: for small networks several threads per operation cost more than they gain.
        """
        return self.processes or max(n for n in range(1, max(1, devices) + 1) if self.batch % n == 0)

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`; a cosine schedule ends at 0.02 of the highest."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
