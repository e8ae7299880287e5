"""Predicted latency as a limit of a search: the table of supernet.latency, made to grow with every width."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from quatrain.supernet.latency import predict, read
from quatrain.supernet.subnet import Subnet


class TimeTable:
    """Tells milliseconds of any sub-network.

    Where noise made a wider block come out faster than a narrower one, it counts as slow as that one: a search relies
    on it that a smaller network is never the slower one.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = {**table, "blocks": {kind: _growing(times) for kind, times in table["blocks"].items()}}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TimeTable:
        """Read a calibrated table; raise UsageError when the file is none."""
        return cls(read(path))

    def ms(self, subnet: Subnet) -> float:
        """Return milliseconds an image."""
        return predict(self._table, subnet)


def _growing(by_width: Mapping[str, float]) -> dict[str, float]:
    widths = sorted(by_width, key=int)
    return dict(zip(widths, accumulate((by_width[width] for width in widths), max), strict=True))
