"""Chart of the traffic between parts, such as graph partitions, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from quatrain.report.charts import BLUE, INK, STYLE, StackedBar, as_svg, series_colours


@mpl.rc_context(STYLE)
def flows(
    values: Sequence[Sequence[float]], sides: Sequence[StackedBar], *, names: Sequence[str], labels: Sequence[str]
) -> str:
    """Draw the traffic from each column to each row as a heat map, and beside each row its stacked bar.

    The shade is proportional to the square root of the value. Up to 12 parts the cells also show numbers. The diagonal
    is empty. `labels` are the axis labels of the columns, the rows and the stacked bars.
    """
    amount = np.array(values, float)
    count = len(amount)
    side = min(6.4, max(2.2, 0.42 * count))
    wide = max(8.4, side + 3.2)
    figure = Figure(figsize=(wide, side + 0.9), layout="constrained")
    cells, beside = figure.subplots(1, 2, width_ratios=(side, wide - side - 0.8), sharey=True)
    _shade(cells, amount)
    if count <= 12:
        for row, column in zip(*np.nonzero(amount), strict=True):
            text = short(float(amount[row, column]))
            cells.annotate(text, (column, row), ha="center", va="center", fontsize=7.5, color=INK)
    start = np.zeros(count)
    for index, (name, colour) in enumerate(zip(names, series_colours(len(names)), strict=True)):
        width = np.array([one.parts[index] for one in sides])
        beside.barh(range(count), width, left=start, height=0.72, color=colour, label=name)
        start += width
    ticks = range(0, count, -(-count // 32))
    cells.set_xticks(ticks, [sides[at].label for at in ticks], rotation=90 if count > 12 else 0, fontsize=8)
    cells.set_yticks(ticks, [sides[at].label for at in ticks], fontsize=8)
    cells.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    cells.grid(visible=False)
    beside.grid(visible=False, axis="y")
    beside.set(xlabel=labels[2])
    beside.xaxis.set_major_locator(MaxNLocator(3))
    beside.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    beside.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), fontsize=8)
    return as_svg(figure, "flows")


def _shade(axes: Axes, amount: NDArray[np.float64], levels: int = 10) -> None:
    """Fill the cells of a matrix; all cells of one shade form one path, which keeps the SVG small."""
    level = np.ceil(levels * np.sqrt(amount / max(1.0, amount.max()))).astype(int)
    square = np.array([(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46), (-0.46, -0.46)])
    for shade in range(levels + 1):
        rows, columns = np.nonzero(level == shade)
        keep = rows != columns
        corners = np.stack([columns[keep], rows[keep]], axis=1)[:, None] + square
        if len(corners):
            path = Path(corners.reshape(-1, 2), np.tile([1, 2, 2, 2, 79], len(corners)))
            axes.add_patch(PathPatch(path, facecolor=BLUE, alpha=0.06 + 0.74 * shade / levels, linewidth=0))


def short(value: float) -> str:
    """Return a count in short form, such as 950, 1.2k or 34M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}" if value < 10 * size else f"{value / size:.0f}{unit}"
    return f"{value:g}"
