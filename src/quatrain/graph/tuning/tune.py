"""Ranking of cache configurations by a replay of a recorded trace, before node-hours are spent.

The replay of a configuration gives its hits and rows exactly. Its time is computed by a model of a step:

    prepare = max(sampling + lookup + policy + copy, pull)      pull = latency + rows F 4 / bandwidth, 0 without rows

The maximum holds because the rows of one batch are transferred while the next one is sampled. Without overlap (stock
DistDGL, a shared cache) or look-ahead it is the sum. With look-ahead of depth d, step i is prepared once step i - d
has begun to train; with d = 0 preparation and training alternate (`pipeline.PrefetchPipeline`). Times of lookup and
policy are those of the replay in this process. The bandwidth is that of one trainer.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quatrain.errors import UsageError
from quatrain.files import write_json, write_text
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.policies import policies, policy_spec
from quatrain.graph.tuning.pipeline import PrefetchPipeline
from quatrain.graph.tuning.replay import Replay, replay
from quatrain.graph.tuning.trace import Trace, read_trace

FEATURE_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """Configurations to try, and facts of the machine."""

    policies: tuple[str, ...] = field(default_factory=lambda: tuple(policies()))
    """Policies to try."""
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Cache sizes as shares of the halo."""
    decays: tuple[float, ...] = (0.95, 0.995)
    """`paper`: factors on the scores of unread rows (gamma)."""
    intervals: tuple[int, ...] = (16, 64)
    """`paper`, `lfu`: steps between replacements (delta)."""
    windows: tuple[int, ...] = (8, 32)
    """`presample`, `belady`: steps to look ahead."""
    candidates: tuple[str, ...] = ("halo", "remote")
    """Vertices that may be cached."""
    carry: tuple[bool, ...] = (False, True)
    """`belady`: whether rows of the previous batch are reused."""
    mbit_s: float = 1000.0
    """Bandwidth of one trainer in Mbit/s."""
    latency_s: float = 0.001
    """Seconds per pull, independent of its size."""
    copy_gb_s: float = 2.0
    """Gigabytes per second at which batches are assembled."""
    depth: int = 2
    """Batches prepared ahead; 0: none."""
    overlap: bool = True
    """Whether rows are transferred while the next batch is sampled: seeded sampler, look-ahead, cache not shared."""
    sample_s: float | None = None
    """Seconds of sampling per step. Default: from the trace."""
    train_s: float | None = None
    """Seconds of training per step. Default: from the trace."""

    def __post_init__(self) -> None:
        for name in ("policies", "fractions", "decays", "intervals", "windows", "candidates", "carry"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; give at least one value")
        for name in ("mbit_s", "copy_gb_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("latency_s", "depth", "sample_s", "train_s"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        list(self.configurations())  # refuses what CacheConfig refuses

    def configurations(self) -> Iterator[CacheConfig]:
        """Yield each configuration once: a policy varies only in the settings that it reads."""
        for spec in dict.fromkeys(map(policy_spec, self.policies)):
            candidates = [one for one in self.candidates if one in spec.candidates] or spec.candidates
            for fraction, decay, interval, window, among, carry in itertools.product(
                self.fractions if spec.caches else self.fractions[:1],
                self.decays if spec.uses_decay else self.decays[:1],
                self.intervals if spec.uses_interval else self.intervals[:1],
                self.windows if spec.looks_ahead else self.windows[:1],
                candidates if spec.caches else candidates[:1],
                self.carry if spec.carries else (False,),
            ):
                yield CacheConfig(
                    policy=spec.name,
                    fraction=fraction,
                    decay=decay,
                    interval=interval,
                    window=window,
                    carry=carry,
                    candidates=among,  # type: ignore[arg-type]  # CacheConfig refuses other words
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """Prediction for one configuration."""

    buffer: CacheConfig
    buffer_rows: int
    halo_hit_rate: float | None
    """Hits over accesses of halo vertices; None without an access."""
    remote_hit_rate: float | None
    """Hits over accesses of all remote vertices; None without an access."""
    remote_bytes: int
    """Bytes transferred per epoch, without the first fill."""
    fill_bytes: int
    """Bytes transferred before the first step."""
    memory_bytes: int
    """Bytes of the cache and of the policy's arrays; without look-ahead also of the batch that carry keeps."""
    epoch_s: float
    """Seconds per epoch."""
    speedup: float
    """Epoch time without a cache over this epoch time, with the same look-ahead."""


def tune(
    trace_path: str | os.PathLike[str],
    config: TuneConfig | None = None,
    *,
    advance: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Ranked]:
    """Return all configurations with their predictions on a trace, the fastest first.

    Times that agree to two digits, the model's accuracy, rank by bytes, then by memory. `advance(done, total)` is
    called after each replay. UsageError when the file is not a trace, or when neither it nor `config` has the seconds
    of sampling and training.
    """
    config = config or TuneConfig()
    trace = read_trace(trace_path)
    model = StepModel.of(trace, config)
    plain = model.epoch_s(replay(trace, CacheConfig(policy="none"), clock))
    ranked, tried = [], list(config.configurations())
    for done, one in enumerate(tried, start=1):
        ranked.append(_predict(trace, one, model, plain, clock))
        if advance is not None:
            advance(done, len(tried))
    return sorted(ranked, key=lambda one: (float(f"{one.epoch_s:.2g}"), one.remote_bytes, one.memory_bytes))


def _predict(trace: Trace, buffer: CacheConfig, model: StepModel, plain_s: float, clock: Callable[[], float]) -> Ranked:
    done = replay(trace, buffer, clock)
    row_bytes, epoch_s = trace.setup.dim * FEATURE_BYTES, model.epoch_s(done)
    candidates = trace.setup.halo.size if buffer.effective_candidates == "halo" else trace.setup.vertex_count
    return Ranked(
        buffer=buffer,
        buffer_rows=done.buffer_rows,
        halo_hit_rate=done.halo_hit_rate,
        remote_hit_rate=done.remote_hit_rate,
        remote_bytes=int(done.remote_rows.sum()) * trace.setup.dim * buffer.bytes_per_number // trace.epochs,
        fill_bytes=done.buffer_rows * row_bytes,
        memory_bytes=(done.buffer_rows + model.carried_rows(buffer)) * row_bytes + buffer.spec.index_bytes * candidates,
        epoch_s=epoch_s,
        speedup=plain_s / epoch_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepModel:
    """Time model of the steps of a trace (see the module's docstring)."""

    read: NDArray[np.int64]
    """Vertices that each step reads, local ones included, (S,)."""
    epochs: int
    row_bytes: int
    sample_s: float
    train_s: float
    config: TuneConfig

    @classmethod
    def of(cls, trace: Trace, config: TuneConfig) -> StepModel:
        """Return the model of a trace; UsageError when neither `config` nor the trace has the seconds per step."""
        sample_s = trace.sample_s if config.sample_s is None else config.sample_s
        train_s = trace.train_s if config.train_s is None else config.train_s
        if sample_s is None or train_s is None:
            raise UsageError("the trace has no times of sampling and training: give sample_s and train_s")
        return cls(
            read=trace.local + np.diff(trace.end, prepend=0),
            epochs=trace.epochs,
            row_bytes=trace.setup.dim * FEATURE_BYTES,
            sample_s=sample_s,
            train_s=train_s,
            config=config,
        )

    def epoch_s(self, done: Replay, number_bytes: int = FEATURE_BYTES) -> float:
        """Return the mean seconds per epoch, with `number_bytes` transferred per number."""
        pipeline = PrefetchPipeline(self.config.depth)
        for prepare_s in self.prepare_s(done, number_bytes).tolist():
            pipeline.step(prepare_s, self.train_s)
        return pipeline.end / self.epochs

    def carried_rows(self, buffer: CacheConfig) -> int:
        """Return the rows that carry keeps in memory beyond those that look-ahead keeps."""
        return int(self.read.max()) if buffer.effective_carry and self.config.depth == 0 else 0

    def prepare_s(self, done: Replay, number_bytes: int = FEATURE_BYTES) -> NDArray[np.float64]:
        """Return the seconds of each step's preparation, (S,)."""
        pull = np.where(done.remote_rows > 0, self.config.latency_s, 0.0)
        wire_bytes = done.remote_rows * self.row_bytes * (number_bytes / FEATURE_BYTES)
        pull = pull + wire_bytes * 8 / (self.config.mbit_s * 1e6)
        copy = self.read * self.row_bytes / (self.config.copy_gb_s * 1e9)
        own = self.sample_s + (done.lookup_s + done.policy_s) / len(self.read) + copy
        seconds: NDArray[np.float64] = own + pull
        return np.maximum(own, pull) if self.config.overlap and self.config.depth else seconds


_COLUMNS: tuple[tuple[str, Callable[[Ranked], str]], ...] = (
    ("policy", lambda one: one.buffer.policy),
    ("f", lambda one: _if(one.buffer.spec.caches, one.buffer.fraction)),
    ("gamma", lambda one: _if(one.buffer.spec.uses_decay, one.buffer.decay)),
    ("delta", lambda one: _if(one.buffer.spec.uses_interval, one.buffer.interval)),
    ("window", lambda one: _if(one.buffer.spec.looks_ahead, one.buffer.effective_window)),
    ("among", lambda one: _if(one.buffer.spec.caches, one.buffer.effective_candidates)),
    ("carry", lambda one: _if(one.buffer.effective_carry, "yes")),
    ("halo hits %", lambda one: _percent(one.halo_hit_rate)),
    ("remote hits %", lambda one: _percent(one.remote_hit_rate)),
    ("MB/epoch", lambda one: f"{one.remote_bytes / 1e6:,.1f}"),
    ("memory MB", lambda one: f"{one.memory_bytes / 1e6:,.1f}"),
    ("s/epoch", lambda one: f"{one.epoch_s:.3f}"),
    ("times", lambda one: f"{one.speedup:.2f}"),
)


def _if(applies: bool, value: float | str) -> str:
    return str(value) if applies else ""


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}"


def table(ranked: list[Ranked]) -> str:
    """Return the ranking as text, one line per configuration; settings that a policy does not read are empty."""
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
        raise UsageError(f"{name} is not a .json or .csv file: choose one of these suffixes")


def _csv(ranked: list[Ranked]) -> str:
    text = io.StringIO()
    rows = [
        {
            **{
                field: getattr(one.buffer, field)
                for field in ("policy", "fraction", "decay", "interval", "window", "carry")
            },
            "candidates": one.buffer.effective_candidates,
            **{field: getattr(one, field) for field in Ranked.__dataclass_fields__ if field != "buffer"},
        }
        for one in ranked
    ]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
