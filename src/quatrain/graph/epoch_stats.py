"""Times and counts of one epoch: summed per trainer, then joined over all trainers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from quatrain.graph.features.metrics import hit_rate

if TYPE_CHECKING:
    from quatrain.graph.prefetch import PreparedBatch


@dataclass(kw_only=True, slots=True)
class RankStats:
    """Sums of one trainer over an epoch; names ending in _s are seconds."""

    seconds: float = 0.0
    sample_s: float = 0.0
    pull_s: float = 0.0
    lookup_s: float = 0.0
    """Lookup and cache policy."""
    copy_s: float = 0.0
    """Assembly of batches."""
    train_s: float = 0.0
    wait_s: float = 0.0
    """Wait of the training thread for a batch."""
    overhead_s: float = 0.0
    """How much earlier the epoch would end, at most, without lookup and copy (see `tuning.pipeline`)."""
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
HITS = ("halo_hits", "halo_misses", "remote_hits", "remote_misses")
_NAMES = tuple(field.name for field in fields(RankStats))


class EpochStats:
    """Collects the statistics of one trainer in one epoch."""

    def __init__(self) -> None:
        self.sums = RankStats()
        self._began = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to the sum `name`."""
        began = time.perf_counter()
        yield
        setattr(self.sums, name, getattr(self.sums, name) + time.perf_counter() - began)

    def count(self, batch: PreparedBatch) -> None:
        """Add times and counts of the preparation of a batch."""
        sums, metrics = self.sums, batch.metrics
        sums.steps += 1
        sums.sample_s += batch.sample_s
        sums.lookup_s += metrics.lookup_s + metrics.policy_s
        for name in ("pull_s", "copy_s", *HITS, *COUNTS):
            setattr(sums, name, getattr(sums, name) + getattr(metrics, name))

    def close(self, device: torch.device) -> dict[str, Any]:
        """Return the epoch's row over all trainers; a collective call of `torch.distributed`."""
        self.sums.seconds = time.perf_counter() - self._began
        own = torch.tensor(list(asdict(self.sums).values()), dtype=torch.float64, device=device)
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own)
        return joined_row([RankStats(**dict(zip(_NAMES, values.tolist(), strict=True))) for values in gathered])


def joined_row(ranks: list[RankStats]) -> dict[str, Any]:
    """Return one row of epochs.json: maximum of the total time, mean of its parts, sum of counts, mean loss.

    A trainer's training time includes waits for slower trainers. So overhead_s is the maximum over the trainers.
    """

    def total(name: str) -> float:
        return float(sum(getattr(rank, name) for rank in ranks))

    return {
        **{name: max(getattr(rank, name) for rank in ranks) for name in ("seconds", "overhead_s")},
        **{name: total(name) / len(ranks) for name in TIMES},
        "halo_hit_rate": hit_rate(total("halo_hits"), total("halo_misses")),
        "remote_hit_rate": hit_rate(total("remote_hits"), total("remote_misses")),
        **{name: int(total(name)) for name in COUNTS},
        "loss": total("loss") / max(1.0, total("steps")),
    }
