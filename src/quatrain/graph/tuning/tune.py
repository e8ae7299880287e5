"""Which buffer pays, told from a recorded trace before a node-hour is spent.

Every configuration is replayed, which gives its hits and rows exactly. Its time comes from a model of a step:

    prepare = max(sampling + look-up + policy + copy, pull)      pull = latency + rows F 4 / bandwidth, 0 without rows

since the rows of one batch travel while the next is sampled. Without overlap (stock DistDGL, a buffer that trainers
share) or look-ahead it is the sum. With look-ahead of depth d, step i is prepared once step i - d has begun to train;
without (d = 0) everything is in turn (`PrefetchPipeline`).
Times of look-up and policy are those of the replay itself, on
this machine. The bandwidth is a trainer's share.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.errors import UsageError
from quatrain.files import write_json, write_text
from quatrain.graph.config import EVICTING, FORESEEING, POLICIES, CacheConfig
from quatrain.graph.tuning.pipeline import PrefetchPipeline
from quatrain.graph.tuning.replay import Replay, replay
from quatrain.graph.tuning.trace import Trace, read_trace

FEATURE_BYTES = 4
INDEX_BYTES = {"none": 0, "static-degree": 4, "presample": 4, "paper": 13, "counts": 8, "schedule": 13}
"""Bytes a candidate that the look-up and the policy's arrays take (HaloTable's 3/16 byte a vertex not counted)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """What is tried, and the machine that it is tried for."""

    policies: tuple[str, ...] = POLICIES
    """Policies to try."""
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Buffer sizes, as shares of the halo."""
    decays: tuple[float, ...] = (0.95, 0.995)
    """`paper`: factors on unused scores (gamma)."""
    intervals: tuple[int, ...] = (16, 64)
    """`paper`, `counts`: steps between changes (delta)."""
    windows: tuple[int, ...] = (8, 32)
    """`presample`, `schedule`: steps known in advance."""
    candidates: tuple[str, ...] = ("halo", "remote")
    """What may be kept."""
    carry: tuple[bool, ...] = (False, True)
    """`schedule`: whether rows are taken from the batch before as well."""
    mbit_s: float = 1000.0
    """Bandwidth of a trainer's pulls."""
    latency_s: float = 0.001
    """Seconds that a pull takes whatever its size."""
    copy_gb_s: float = 2.0
    """Gigabytes a second at which a batch's rows are put together."""
    depth: int = 2
    """Batches prepared ahead; 0 for none."""
    overlap: bool = True
    """Whether rows travel while the next batch is sampled, as with the seeded sampler, look-ahead and an own buffer."""
    sample_s: float | None = None
    """Seconds of sampling a step; None takes what the trace tells."""
    train_s: float | None = None
    """Seconds of training a step; None takes what the trace tells."""

    def __post_init__(self) -> None:
        for name in ("policies", "fractions", "decays", "intervals", "windows", "candidates", "carry"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name at least one to try")
        for name in ("mbit_s", "copy_gb_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("latency_s", "depth", "sample_s", "train_s"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        list(self.buffers())  # refuses what a buffer refuses

    def buffers(self) -> Iterator[CacheConfig]:
        """Yield every configuration to try, each once: a policy varies only in what it looks at."""
        for policy in dict.fromkeys(self.policies):
            evicts, foresees = policy in EVICTING, policy in FORESEEING
            for fraction, decay, interval, window, among, carry in itertools.product(
                self.fractions if policy != "none" else self.fractions[:1],
                self.decays if policy == "paper" else self.decays[:1],
                self.intervals if evicts else self.intervals[:1],
                self.windows if foresees else self.windows[:1],
                self.candidates if evicts or foresees else ("halo",),
                self.carry if policy == "schedule" else (False,),
            ):
                yield CacheConfig(
                    policy=policy,
                    fraction=fraction,
                    decay=decay,
                    interval=interval,
                    window=window,
                    carry=carry,
                    candidates=among,  # type: ignore[arg-type]  # CacheConfig itself refuses other words
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """What one configuration is predicted to do."""

    buffer: CacheConfig
    buffer_rows: int
    halo_hit_rate: float
    remote_hit_rate: float
    remote_bytes: int
    """Bytes pulled an epoch, the first fill not counted."""
    fill_bytes: int
    """Bytes pulled before the first step."""
    memory_bytes: int
    """Bytes of the buffer, of the look-up and of the policy; without look-ahead, also of the batch that carry keeps."""
    epoch_s: float
    """Seconds an epoch."""
    speedup: float
    """Times faster than no buffer with the same look-ahead."""


def tune(
    trace_path: str | os.PathLike[str],
    config: TuneConfig | None = None,
    *,
    advance: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Ranked]:
    """Replay every configuration over a trace and return them, the fastest first.

    Times that are alike to two digits, which is as much as the model can tell, rank by their bytes, then by memory.

    `advance(done, total)` is told after each replay. UsageError when the trace is none, or when neither it nor the
    configuration tells how long sampling and training of a step take.
    """
    config = config or TuneConfig()
    trace = read_trace(trace_path)
    model = StepModel.of(trace, config)
    plain = model.epoch_s(replay(trace, CacheConfig(policy="none"), clock))
    ranked, buffers = [], list(config.buffers())
    for done, buffer in enumerate(buffers, start=1):
        ranked.append(_predict(trace, buffer, model, plain, clock))
        if advance is not None:
            advance(done, len(buffers))
    return sorted(ranked, key=lambda one: (float(f"{one.epoch_s:.2g}"), one.remote_bytes, one.memory_bytes))


def _predict(trace: Trace, buffer: CacheConfig, model: StepModel, plain_s: float, clock: Callable[[], float]) -> Ranked:
    done = replay(trace, buffer, clock)
    row_bytes, epoch_s = trace.setup.dim * FEATURE_BYTES, model.epoch_s(done)
    among = trace.setup.halo.size if buffer.among == "halo" else trace.setup.vertex_count
    return Ranked(
        buffer=buffer,
        buffer_rows=done.buffer_rows,
        halo_hit_rate=done.halo_hit_rate,
        remote_hit_rate=done.remote_hit_rate,
        remote_bytes=int(done.remote_rows.sum()) * trace.setup.dim * buffer.number_bytes // trace.epochs,
        fill_bytes=done.fill_rows * row_bytes,
        memory_bytes=(done.buffer_rows + model.carried_rows(buffer)) * row_bytes + INDEX_BYTES[buffer.policy] * among,
        epoch_s=epoch_s,
        speedup=plain_s / epoch_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepModel:
    """How long the steps of a trace take (see the module's text)."""

    read: NDArray[np.int64]
    """Vertices that each step reads, the own part's among them, (S,)."""
    epochs: int
    row_bytes: int
    sample_s: float
    train_s: float
    config: TuneConfig

    @classmethod
    def of(cls, trace: Trace, config: TuneConfig) -> StepModel:
        """Take what the trace tells, or the configuration in its place; UsageError when neither does."""
        sample_s = trace.sample_s if config.sample_s is None else config.sample_s
        train_s = trace.train_s if config.train_s is None else config.train_s
        if sample_s is None or train_s is None:
            raise UsageError("the trace does not tell how long a step's sampling and training take: give both seconds")
        return cls(
            read=trace.local + np.diff(trace.end, prepend=0),
            epochs=trace.epochs,
            row_bytes=trace.setup.dim * FEATURE_BYTES,
            sample_s=sample_s,
            train_s=train_s,
            config=config,
        )

    def epoch_s(self, done: Replay, number_bytes: int = FEATURE_BYTES) -> float:
        """Return the mean seconds of an epoch whose numbers travel in `number_bytes` each."""
        pipeline = PrefetchPipeline(self.config.depth)
        for prepare_s in self.prepare_s(done, number_bytes).tolist():
            pipeline.step(prepare_s, self.train_s)
        return pipeline.end / self.epochs

    def carried_rows(self, buffer: CacheConfig) -> int:
        """Return the rows that carry keeps in memory and look-ahead would not."""
        return int(self.read.max()) if buffer.carries and self.config.depth == 0 else 0

    def prepare_s(self, done: Replay, number_bytes: int = FEATURE_BYTES) -> NDArray[np.float64]:
        """Return the seconds that each step's preparation takes, (S,)."""
        pull = np.where(done.remote_rows > 0, self.config.latency_s, 0.0)
        wire_bytes = done.remote_rows * self.row_bytes * (number_bytes / FEATURE_BYTES)
        pull = pull + wire_bytes * 8 / (self.config.mbit_s * 1e6)
        copy = self.read * self.row_bytes / (self.config.copy_gb_s * 1e9)
        own = self.sample_s + (done.lookup_s + done.policy_s) / len(self.read) + copy
        seconds: NDArray[np.float64] = own + pull
        return np.maximum(own, pull) if self.config.overlap and self.config.depth else seconds


_COLUMNS: tuple[tuple[str, Callable[[Ranked], str]], ...] = (
    ("policy", lambda one: one.buffer.policy),
    ("f", lambda one: _where(one.buffer.policy != "none", one.buffer.fraction)),
    ("gamma", lambda one: _where(one.buffer.policy == "paper", one.buffer.decay)),
    ("delta", lambda one: _where(one.buffer.policy in EVICTING, one.buffer.interval)),
    ("window", lambda one: _where(one.buffer.policy in FORESEEING, one.buffer.known_steps)),
    ("among", lambda one: _where(one.buffer.policy != "none", one.buffer.among)),
    ("carry", lambda one: _where(one.buffer.carries, "yes")),
    ("halo hits %", lambda one: f"{100 * one.halo_hit_rate:.1f}"),
    ("remote hits %", lambda one: f"{100 * one.remote_hit_rate:.1f}"),
    ("MB/epoch", lambda one: f"{one.remote_bytes / 1e6:,.1f}"),
    ("memory MB", lambda one: f"{one.memory_bytes / 1e6:,.1f}"),
    ("s/epoch", lambda one: f"{one.epoch_s:.3f}"),
    ("times", lambda one: f"{one.speedup:.2f}"),
)


def _where(applies: bool, value: float | str) -> str:
    return str(value) if applies else ""


def table(ranked: list[Ranked]) -> str:
    """Return the ranking as text, a line a configuration; what a policy does not look at is left empty."""
    lines = [[name for name, _ in _COLUMNS], *([show(one) for _, show in _COLUMNS] for one in ranked)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def write_ranked(ranked: list[Ranked], path: str | os.PathLike[str]) -> None:
    """Write the ranking to a .json or .csv file, atomically; UsageError for another suffix."""
    name = os.fspath(path)
    if name.endswith(".json"):
        write_json(path, ranked)
    elif name.endswith(".csv"):
        write_text(path, _csv(ranked))
    else:
        raise UsageError(f"{name} is no file for a ranking: name it .json or .csv")


def _csv(ranked: list[Ranked]) -> str:
    text = io.StringIO()
    rows = [
        {
            **{
                field: getattr(one.buffer, field)
                for field in ("policy", "fraction", "decay", "interval", "window", "carry")
            },
            "candidates": one.buffer.among,
            **{field: getattr(one, field) for field in Ranked.__dataclass_fields__ if field != "buffer"},
        }
        for one in ranked
    ]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
