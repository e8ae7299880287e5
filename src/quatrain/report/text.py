"""Formats numbers for readers; an unknown value is a dash."""

from __future__ import annotations

UNKNOWN = "\N{EN DASH}"


def millions(count: float | None) -> str:
    """Write a count in millions: 0.82, 12.5."""
    return UNKNOWN if count is None else f"{count / 1e6:.{2 if count < 1e7 else 1}f}"


def figure(value: float | None) -> str:
    """Write a figure with about three digits: 0.260, 3.12, 31.2, 486."""
    if value is None:
        return UNKNOWN
    decimals = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{decimals}f}"


def percent(share: float | None) -> str:
    """Write a share from 0 to 1 in percent, without the sign: 85.3."""
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def count(number: int | None) -> str:
    """Write a whole number with its thousands apart: 12,800."""
    return UNKNOWN if number is None else f"{number:,}"


def duration(seconds: float | None) -> str:
    """Write a time span in its two largest units: 3 h 12 min, 4 min 5 s, 9 s."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
