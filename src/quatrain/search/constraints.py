"""Limits on parameters, multiply-accumulates and latency of a sub-network, checked before an evaluation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, Protocol

from quatrain.errors import UsageError
from quatrain.sam.registry import SamShape
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.latency import predict, read
from quatrain.supernet.space import Space, Subnet

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([kmgbt%]?)", re.IGNORECASE)


def parse_amount(text: str, full: int | None = None) -> int:
    """Read "40M", "1.2G", "1_500_000" or, with the full network's figure, "60%"; round down.

    Raise UsageError for other text, an amount that is not positive, or a share above 100 %.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not an amount: write a number such as 40M or 1.2G, or a share of the full net such as 60%"
        )
    number, unit = Fraction(match[1].replace("_", "")), match[2].lower()
    if number <= 0 or (unit == "%" and number > 100):
        raise UsageError(f"{text!r} is out of range: give more than 0 and, for a share, at most 100%")
    if unit == "%":
        return int(number * (full or 1) / 100)
    return int(number * _UNITS[unit])


def check_amount(text: str | None) -> None:
    """Raise UsageError unless `text` is an amount for `parse_amount`; None means no limit."""
    if text is not None:
        parse_amount(text)


class Latency(Protocol):
    """The latency of sub-networks' image encoders; it never falls with more width or depth."""

    def ms(self, subnet: Subnet) -> float:
        """Return milliseconds per image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Upper limits on parameters, multiply-accumulates and latency of the image encoder of a network."""

    sam: SamShape
    max_params: int | None = None
    """Parameters of the image encoder."""
    max_macs: int | None = None
    """Multiply-accumulates of the image encoder per image."""
    max_latency_ms: float | None = None
    """Milliseconds of the image encoder per image, by `latency`."""
    latency: Latency | None = None
    """Latency measured on the device of the limit."""

    def __post_init__(self) -> None:
        for name, value in (("max_params", self.max_params), ("max_macs", self.max_macs)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or None for no limit")
        if self.max_latency_ms is not None:
            if not self.max_latency_ms > 0:
                raise ValueError(f"max_latency_ms is {self.max_latency_ms}; it must be positive, or None for no limit")
            if self.latency is None:
                raise ValueError(f"max_latency_ms is {self.max_latency_ms}, but no latency has been measured")

    @classmethod
    def parse(
        cls,
        sam: SamShape,
        *,
        max_params: str | None = None,
        max_macs: str | None = None,
        max_latency_ms: float | None = None,
        latency: Latency | None = None,
    ) -> Bounds:
        """Return the bounds of limits such as "40M" or "60%", a share of the full network's figure."""
        return cls(
            sam=sam,
            max_params=None
            if max_params is None
            else parse_amount(max_params, encoder_parameters(sam, full_subnet(sam))),
            max_macs=None if max_macs is None else parse_amount(max_macs, encoder_macs(sam, full_subnet(sam))),
            max_latency_ms=max_latency_ms,
            latency=latency,
        )

    def admits(self, subnet: Subnet) -> bool:
        """Return whether `subnet` keeps every limit."""
        if self.max_params is not None and encoder_parameters(self.sam, subnet) > self.max_params:
            return False
        if self.max_macs is not None and encoder_macs(self.sam, subnet) > self.max_macs:
            return False
        return self.max_latency_ms is None or self.latency is None or self.latency.ms(subnet) <= self.max_latency_ms

    def check(self, space: Space) -> None:
        """Raise UsageError if even the smallest network of the space is above a limit."""
        smallest = space.smallest()
        for what, flag, limit, figure in (
            ("parameters", "--max-params", self.max_params, encoder_parameters(self.sam, smallest)),
            ("multiply-accumulates", "--max-macs", self.max_macs, encoder_macs(self.sam, smallest)),
        ):
            if limit is not None and figure > limit:
                raise UsageError(
                    f"no sub-network has at most {limit:,} {what}: the smallest of this space has {figure:,}; "
                    f"raise {flag} or offer narrower widths or more removable blocks"
                )
        if self.max_latency_ms is not None and not self.admits(smallest) and self.latency is not None:
            raise UsageError(
                f"no sub-network takes at most {self.max_latency_ms:g} ms: the smallest of this space takes "
                f"{self.latency.ms(smallest):.1f} ms here; raise --max-latency-ms"
            )


class TimeTable:
    """The latency of any sub-network by a calibrated table.

    If noise made a wider block faster than a narrower one, it counts as slow as that one. A search relies on it that a
    smaller network is never slower.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = {**table, "blocks": {kind: _growing(times) for kind, times in table["blocks"].items()}}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TimeTable:
        """Read a calibrated table; raise UsageError if the file is not one."""
        return cls(read(path))

    def ms(self, subnet: Subnet) -> float:
        """Return milliseconds per image."""
        return predict(self._table, subnet)


def _growing(by_width: Mapping[str, float]) -> dict[str, float]:
    widths = sorted(by_width, key=int)
    return dict(zip(widths, accumulate((by_width[width] for width in widths), max), strict=True))
