"""What the replay of a recorded trace says about the runs of `prefetch.py`, beside what these measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from lines import emit

from quatrain.graph.replay import replay
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.trace import read_trace

COUNTED = slice(1, -2)
"""The epochs that are counted: the first warms up; in the last two a policy that looks ahead has sampled before."""


def foretold(traces: Path, buffer: BufferConfig) -> dict[str, float]:
    """Return an epoch's remote bytes and hit rate over all trainers, of the counted epochs."""
    pulled = hits = asked = epochs = 0
    for path in sorted(traces.glob("*.h5")):
        trace = read_trace(path)
        done, which = replay(trace, buffer), range(trace.epochs)[COUNTED]
        counted, epochs = np.isin(trace.epoch, which), len(which)
        pulled += int(done.remote_rows[counted].sum()) * trace.setup.dim * buffer.number_bytes
        hits += int(done.remote_hits[counted].sum())
        asked += int((done.remote_hits + done.remote_misses)[counted].sum())
    return {"remote_bytes": pulled / epochs, "remote_hit_rate": hits / max(1, asked)}


def compare(case: str, traces: Path, buffer: BufferConfig, rows: list[list[dict[str, Any]]]) -> None:
    """Print each figure as foretold and as measured in `rows`, the counted epochs of each seed, and the error."""
    told = foretold(traces, buffer)
    for key, scale, unit in (("remote_bytes", 1e-6, "MB an epoch"), ("remote_hit_rate", 1.0, "ratio")):
        measured = [statistics.fmean(epoch[key] or 0.0 for epoch in epochs) * scale for epochs in rows]
        foreseen = told[key] * scale
        emit("prefetch", case, f"{key} foretold", [foreseen], unit=unit, goal="", ok=None)
        emit("prefetch", case, f"{key} measured", measured, unit=unit, goal="", ok=None)
        if foreseen and min(measured) > 0:
            error = [foreseen / one - 1 for one in measured]
            emit("prefetch", case, f"{key} error of the prediction", error, unit="of measured", goal="", ok=None)
