"""What the replay of a recorded trace says about the runs of `prefetch.py`, beside what these measured."""

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
"""The epochs that are counted: the first warms up; in the last three a policy that looks ahead has less to sample."""


def foretold(traces: Path, buffer: CacheConfig, model: TuneConfig) -> dict[str, float]:
    """Return an epoch's remote bytes and hit rate over all trainers, of the counted epochs, and its seconds."""
    pulled = hits = asked = epochs = 0
    seconds = 0.0
    for path in sorted(traces.glob("*.h5")):
        trace = read_trace(path)
        done, which = replay(trace, buffer), range(trace.epochs)[COUNTED]
        counted, epochs = np.isin(trace.epoch, which), len(which)
        pulled += int(done.remote_rows[counted].sum()) * trace.setup.dim * buffer.number_bytes
        hits += int(done.remote_hits[counted].sum())
        asked += int((done.remote_hits + done.remote_misses)[counted].sum())
        seconds = max(seconds, StepModel.of(trace, model).epoch_s(done, buffer.number_bytes))
    return {"remote_bytes": pulled / epochs, "remote_hit_rate": hits / max(1, asked), "seconds": seconds}


FIGURES = (
    ("remote_bytes", 1e-6, "MB an epoch", statistics.fmean),  # as foretold: policies pull more in some epochs
    ("remote_hit_rate", 1.0, "ratio", statistics.fmean),
    ("seconds", 1.0, "s an epoch", statistics.median),
)


def compare(case: str, traces: Path, buffer: CacheConfig, model: TuneConfig, rows: list[list[dict[str, Any]]]) -> None:
    """Print each figure as foretold and as measured in `rows`, the counted epochs of each seed, and the error.

    The recording run's link was free, so a step's sampling and training are taken from there, what the link adds from
    the model. Stock draws other neighbours than the trace holds, as many of them.
    """
    told = foretold(traces, buffer, model)
    for key, scale, unit, middle in FIGURES:
        measured = [middle(epoch[key] or 0.0 for epoch in epochs) * scale for epochs in rows]
        foreseen = told[key] * scale
        emit("prefetch", case, f"{key} foretold", [foreseen], unit=unit, goal="", ok=None)
        emit("prefetch", case, f"{key} measured", measured, unit=unit, goal="", ok=None)
        if foreseen and min(measured) > 0:
            error = [foreseen / one - 1 for one in measured]
            emit("prefetch", case, f"{key} error of the prediction", error, unit="of measured", goal="", ok=None)
