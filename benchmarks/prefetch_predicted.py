"""Predictions from a recorded trace, compared with the measured runs of `prefetch.py`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from lines import emit

from quatrain.graph.config import CacheConfig
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import read_trace
from quatrain.graph.tuning.tune import StepModel, TuneConfig

COUNTED = slice(1, -3)
"""Counted epochs. The first one warms up; in the last three a policy that looks ahead has less to sample."""


def predicted(traces: Path, buffer: CacheConfig, model: TuneConfig) -> dict[str, float]:
    """Return mean remote bytes, hit rate and seconds per counted epoch, over all trainers."""
    pulled = hits = accesses = epochs = 0
    seconds = 0.0
    for path in sorted(traces.glob("*.h5")):
        trace = read_trace(path)
        done, which = replay(trace, buffer), range(trace.epochs)[COUNTED]
        counted, epochs = np.isin(trace.epoch, which), len(which)
        pulled += int(done.remote_rows[counted].sum()) * trace.setup.dim * buffer.bytes_per_number
        hits += int(done.remote_hits[counted].sum())
        accesses += int((done.remote_hits + done.remote_misses)[counted].sum())
        seconds = max(seconds, StepModel.of(trace, model).epoch_s(done, buffer.bytes_per_number))
    return {"remote_bytes": pulled / epochs, "remote_hit_rate": hits / max(1, accesses), "seconds": seconds}


FIGURES = (
    (
        "remote_bytes",
        1e-6,
        "MB/epoch",
        statistics.fmean,
    ),  # a mean, like the prediction
    ("remote_hit_rate", 1.0, "ratio", statistics.fmean),
    ("seconds", 1.0, "s/epoch", statistics.median),
)


def compare(case: str, traces: Path, buffer: CacheConfig, model: TuneConfig, rows: list[list[dict[str, Any]]]) -> None:
    """Print each figure as predicted and as measured in `rows`, the counted epochs of each seed, and the error.

    The recording run had an unthrottled link: sampling and training times come from there, transfer times from the
    model. The stock sampler draws other neighbours than the trace has, but as many.
    """
    figures = predicted(traces, buffer, model)
    for key, scale, unit, middle in FIGURES:
        measured = [middle(epoch[key] or 0.0 for epoch in epochs) * scale for epochs in rows]
        prediction = figures[key] * scale
        emit("prefetch", case, f"{key} predicted", [prediction], unit=unit, goal="", ok=None)
        emit("prefetch", case, f"{key} measured", measured, unit=unit, goal="", ok=None)
        if prediction and min(measured) > 0:
            error = [prediction / one - 1 for one in measured]
            emit("prefetch", case, f"{key} error of the prediction", error, unit="of measured", goal="", ok=None)
