"""What an epoch took and did, kept by every trainer and brought together over all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from quatrain.graph.features.metrics import ReadMetrics


@dataclass(slots=True)
class Step:
    """A batch that is ready to train."""

    blocks: list[Any]
    features: Tensor
    """float32 (n, F)."""
    labels: Tensor
    """int64 (B,)."""
    sample_s: float
    """Seconds to sample this batch."""
    counters: ReadMetrics
    prepare_s: float = 0.0
    """Seconds of the preparing thread between the step before and this one."""
    own_s: float = 0.0
    """Seconds of these that went into look-up, policy and copy."""


@dataclass(kw_only=True, slots=True)
class RankStats:
    """RankStats of one trainer over an epoch."""

    seconds: float = 0.0
    sample_s: float = 0.0
    pull_s: float = 0.0
    lookup_s: float = 0.0
    """To look vertices up and to decide what the buffer keeps."""
    copy_s: float = 0.0
    """To put batches together."""
    train_s: float = 0.0
    wait_s: float = 0.0
    """Until a batch was ready."""
    overhead_s: float = 0.0
    """How much sooner the epoch would end, at most, without look-up and copy (see `pace`)."""
    loss: float = 0.0
    steps: float = 0.0
    halo_hits: float = 0.0
    halo_misses: float = 0.0
    remote_hits: float = 0.0
    remote_misses: float = 0.0
    remote_rows: float = 0.0
    remote_bytes: float = 0.0
    local_rows: float = 0.0


TIMES = ("sample_s", "pull_s", "lookup_s", "copy_s", "train_s", "wait_s")
COUNTS = ("remote_rows", "remote_bytes", "local_rows")


class EpochStats:
    """The books of one trainer for one epoch."""

    def __init__(self) -> None:
        self.sums = RankStats()
        self._began = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to one of the sums."""
        began = time.perf_counter()
        yield
        setattr(self.sums, name, getattr(self.sums, name) + time.perf_counter() - began)

    def count(self, step: Step) -> None:
        """Add what preparing a step took."""
        sums, counted = self.sums, step.counters
        sums.steps += 1
        sums.sample_s += step.sample_s
        sums.lookup_s += counted.lookup_s + counted.policy_s
        for name in (
            "pull_s",
            "copy_s",
            "halo_hits",
            "halo_misses",
            "remote_hits",
            "remote_misses",
            *COUNTS,
        ):
            setattr(sums, name, getattr(sums, name) + getattr(counted, name))

    def close(self, device: torch.device) -> dict[str, Any]:
        """Return the epoch over all trainers: the longest time, mean parts of it, summed counts, the mean loss.

        A trainer's training holds its waits for slower ones, so overhead_s is that of whom look-up and copy cost most.
        """
        self.sums.seconds = time.perf_counter() - self._began
        own = torch.tensor(list(asdict(self.sums).values()), dtype=torch.float64, device=device)
        table = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(table, own)
        every = [RankStats(**dict(zip(_NAMES, row.tolist(), strict=True))) for row in table]
        return row(every)


_NAMES = tuple(field.name for field in fields(RankStats))


def row(every: list[RankStats]) -> dict[str, Any]:
    """Return one row of epochs.json from the sums of all trainers."""

    def total(name: str) -> float:
        return float(sum(getattr(one, name) for one in every))

    return {
        **{name: max(getattr(one, name) for one in every) for name in ("seconds", "overhead_s")},
        **{name: total(name) / len(every) for name in TIMES},
        "halo_hit_rate": _rate(total("halo_hits"), total("halo_misses")),
        "remote_hit_rate": _rate(total("remote_hits"), total("remote_misses")),
        **{name: int(total(name)) for name in COUNTS},
        "loss": total("loss") / max(1.0, total("steps")),
    }


def _rate(hits: float, misses: float) -> float | None:
    return hits / (hits + misses) if hits + misses else None
