"""Find the data bar that SEMs print below an image: a strip of one grey with text in another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_SHARE, _MOST_SHARE = 0.02, 0.25
"""How much of the height a bar takes."""
_BACKGROUND = 0.4
"""Least share of a row of the bar that has the bar's own grey."""
_BORDER = 0.98
"""Share of the bar's first row that has one grey."""


def find_data_bar(pixels: NDArray[Any]) -> int:
    """Return the number of rows of the data bar at the bottom of an image; 0 without a data bar.

    A bar has exactly one grey over most of its rows and text of another grey. Its first row has one grey, and its
    own grey is rare above it.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    height, width = grey.shape
    least, most = max(4, round(_LEAST_SHARE * height)), round(_MOST_SHARE * height)
    tail = grey[height - most - 1 :]
    values, counts = np.unique(grey[height - least :], return_counts=True)
    background = values[counts.argmax()]
    share = (tail == background).mean(axis=1)
    constant = (tail == tail[:, :1]).mean(axis=1) >= _BORDER
    inside = (share >= _BACKGROUND) | constant
    rows = len(tail) if inside.all() else int(inside[::-1].argmin())
    if not least <= rows <= most or not constant[len(tail) - rows]:
        return 0
    bar, above = grey[height - rows :], grey[: height - rows]
    is_text = bar != background
    text = float(is_text.mean())
    changes = int((is_text[:, 1:] != is_text[:, :-1]).sum())
    rare = float((above[-4 * rows :] == background).mean()) < 0.2
    return rows if 0.005 < text < 0.6 and changes >= width // 8 and rare else 0
