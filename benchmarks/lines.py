"""The one line format of every benchmark."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence


def emit(
    benchmark: str,
    case: str,
    metric: str,
    values: Sequence[float],
    *,
    unit: str,
    goal: str,
    ok: bool | None,
    middle: Callable[[Sequence[float]], float] = statistics.median,
) -> None:
    """Print the median of `values` and half of their range as one JSON line; `ok` is None where nothing is asked.

    `middle` is statistics.fmean where seeds of a whole study, not repeats of a timing, are brought together.
    """
    line = {
        "benchmark": benchmark,
        "case": case,
        "metric": metric,
        "value": round(middle(values), 5),
        "spread": round((max(values) - min(values)) / 2, 5),
        "unit": unit,
        "goal": goal,
        "ok": ok,
    }
    json.dump(line, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
