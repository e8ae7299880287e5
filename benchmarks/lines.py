"""The one line format of every benchmark."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence


def emit(
    benchmark: str, case: str, metric: str, values: Sequence[float], *, unit: str, goal: str, ok: bool | None
) -> None:
    """Print mean, median and half the range of `values` as one JSON line; `ok` is None where nothing is asked."""
    line = {
        "benchmark": benchmark,
        "case": case,
        "metric": metric,
        "value": round(statistics.fmean(values), 5),
        "median": round(statistics.median(values), 5),
        "spread": round((max(values) - min(values)) / 2, 5),
        "unit": unit,
        "goal": goal,
        "ok": ok,
    }
    json.dump(line, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
