"""The islands of a mask and its holes, found on run lengths alone: no pixel is touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from quatrain.data.rle import Runs

Ints = NDArray[np.int64]


def cleaned(runs: Runs, hw: tuple[int, int], least_px: float) -> Runs:
    """Return a mask without parts below `least_px` pixels and with holes of fewer pixels filled.

    Parts hang together over edges (4-connected), holes over corners too (8-connected); what reaches the border of the
    image is no hole. The largest part always stays.
    """
    height, width = hw
    starts, ends = _pieces(runs, height)
    if not len(starts):
        return runs
    parts = _components(starts, ends, height, reach=0)
    sizes = np.bincount(parts, ends - starts)
    keep = sizes >= least_px
    keep[sizes.argmax()] = True
    return _filled(_runs(starts[keep[parts]], ends[keep[parts]], height * width), (height, width), least_px)


def _filled(runs: Runs, hw: tuple[int, int], least_px: float) -> Runs:
    height, width = hw
    starts, ends = _pieces(np.concatenate([[0], runs]), height)  # outside and inside change places
    if not len(starts):
        return runs
    parts = _components(starts, ends, height, reach=1)
    sizes = np.bincount(parts, ends - starts)
    first_column, last_column = starts < height, starts >= height * (width - 1)
    at_border = first_column | last_column | (starts % height == 0) | (ends % height == 0)
    is_open = np.zeros(len(sizes), bool)
    is_open[parts[at_border]] = True
    keep = is_open | (sizes >= least_px)
    if keep.all():
        return runs
    if not keep.any():
        return np.array([0, height * width])
    outside = _runs(starts[keep[parts]], ends[keep[parts]], height * width)
    return outside[1:] if outside[0] == 0 else np.concatenate([[0], outside])


def _pieces(runs: Runs, height: int) -> tuple[Ints, Ints]:
    """Return starts and ends of the runs inside, in pixels down the columns, cut where a column ends."""
    bounds = np.concatenate([[0], np.cumsum(runs)])
    starts, ends = bounds[1:-1:2], bounds[2::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    columns = (ends - 1) // height - starts // height + 1
    which = np.repeat(np.arange(len(starts)), columns)
    turn = np.arange(len(which)) - np.repeat(np.cumsum(columns) - columns, columns)
    top = (starts[which] // height + turn) * height
    return np.maximum(starts[which], top), np.minimum(ends[which], top + height)


def _components(starts: Ints, ends: Ints, height: int, reach: int) -> Ints:
    """Return the component of each piece; pieces of neighbouring columns touch when they overlap within `reach`."""
    top = starts // height * height
    low = np.maximum(starts - reach, top) + height
    high = np.minimum(ends + reach, top + height) + height
    first, last = np.searchsorted(ends, low, side="right"), np.searchsorted(starts, high, side="left")
    touching = np.maximum(0, last - first)
    one = np.repeat(np.arange(len(starts)), touching)
    other = np.arange(len(one)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(starts), len(starts)))
    labels: Ints = connected_components(graph, directed=False)[1]
    return labels


def _runs(starts: Ints, ends: Ints, total: int) -> Runs:
    """Return the run lengths of pieces, those that touch end to start joined."""
    joined = starts[1:] == ends[:-1]
    firsts, lasts = starts[np.concatenate([[True], ~joined])], ends[np.concatenate([~joined, [True]])]
    bounds = np.stack([firsts, lasts], axis=1).ravel()
    return np.diff(bounds, prepend=0, append=total)
