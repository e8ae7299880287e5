"""Charts for a page, as inline SVG whose colours follow the page's light and dark themes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, MUTED, RULE, PAPER = "#1f2329", "#5f6873", "#d8dee5", "#fffffe"
BLUE, SKY, ORANGE, GREEN, PINK = "#0072b3", "#4a9fd5", "#c26a01", "#00805d", "#b55890"
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, MUTED)
_THEMED = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    BLUE: "blue",
    SKY: "sky",
    ORANGE: "orange",
    GREEN: "green",
    PINK: "pink",
}
"""Colours in the SVG, and the page's colour variables that replace them."""

STYLE: Any = {  # matplotlib types the keys of rc_context one by one
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledPoint:
    """A labelled point."""

    x: float
    y: float
    label: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A line through y over x."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """Values whose distribution is drawn."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar of a bar chart over numbered items, such as blocks."""

    height: float
    highlighted: bool = False
    """Drawn in the accent colour."""
    starred: bool = False
    """Marked under its number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeBand:
    """A range of heights over a range of x, with its mean."""

    left: float
    right: float
    low: float
    mean: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StackedBar:
    """A horizontal bar of stacked parts."""

    label: str
    parts: Sequence[float]


def _axes(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def as_svg(figure: Figure, salt: str) -> str:
    """Return a figure as the text of an SVG element, the same for the same figure and salt."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):  # equal input gives equal text, and no two charts share an id
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, name in _THEMED.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


@mpl.rc_context(STYLE)
def pareto_front(
    *,
    points: Sequence[tuple[float, float]],
    others: Sequence[tuple[float, float]],
    best: Sequence[tuple[float, float]],
    labelled: Sequence[LabelledPoint],
    limit: float | None,
    x_label: str,
    y_label: str,
    bands: Sequence[RangeBand] = (),
    band_label: str = "",
) -> str:
    """Draw all measured points, the Pareto front as a step line, bands behind it, and labelled points.

    `limit` is a vertical line that separates what was allowed (left) from what was not.
    """
    figure, axes = _axes(8.4, 4.6)
    if limit is not None:
        axes.axvline(limit, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            "limit", (limit, 0.01), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points",
            color=MUTED, fontsize=8,
        )  # fmt: skip
    for band in bands:
        label = band_label if band is bands[0] else None
        axes.fill_between([band.left, band.right], band.low, band.high, color=GREEN, alpha=0.25, lw=0, label=label)
        axes.plot([band.left, band.right], [band.mean, band.mean], color=GREEN, linewidth=1.4)
    _dots(axes, others, MUTED, "other nets measured")
    _dots(axes, points, SKY, "proposed by the search")
    if best:
        x, y = zip(*best, strict=True)
        axes.step(x, y, where="post", color=BLUE, linewidth=1.4, zorder=3)
        axes.scatter(x, y, s=24, color=BLUE, zorder=4, label="best for their size")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.08, y=0.1)
    _label_points(axes, labelled)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8.5, handletextpad=0.3)
    return as_svg(figure, "front")


def _dots(axes: Axes, points: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=15, color=colour, alpha=0.55, linewidths=0, label=label, zorder=2)


def _label_points(axes: Axes, points: Sequence[LabelledPoint]) -> None:
    """Label the points on the side with more space; labels that would overlap are moved apart."""
    for point in points:
        axes.scatter(
            [point.x], [point.y], s=170 if point.strong else 42, marker="*" if point.strong else "D",
            color=ORANGE, edgecolors=PAPER, linewidths=0.8, zorder=6,
        )  # fmt: skip
    low, high = axes.get_ylim()
    middle = sum(axes.get_xlim()) / 2
    for side, sign in (("left", 1), ("right", -1)):
        group = sorted((p for p in points if (p.x < middle) == (side == "left")), key=lambda point: point.y)
        heights = spread_labels([point.y for point in group], 0.055 * (high - low), low, high)
        for point, height in zip(group, heights, strict=True):
            axes.annotate(
                point.label, (point.x, point.y), xytext=(12 * sign, (height - point.y) / (high - low) * 240),
                textcoords="offset points", ha=side, va="center", zorder=7, color=INK,
                fontweight="bold" if point.strong else "normal", fontsize=9,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip


def spread_labels(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return ascending `values`, moved by one sweep up and one down so that they are at least `gap` apart.

    They are kept between `low` and `high` if these leave enough space for all.
    """
    placed: list[float] = []
    for value in values:
        placed.append(max(value, placed[-1] + gap) if placed else value)
    ceiling = high
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    shortage = low - placed[0] if placed else 0.0
    return [value + max(0.0, shortage) for value in placed]


@mpl.rc_context(STYLE)
def curves(lines: Sequence[Curve], *, x_label: str, y_label: str) -> str:
    """Draw noisy series: each value faint, a running mean over it."""
    figure, axes = _axes(8.4, 3.6)
    for colour, line in zip(series_colours(len(lines)), lines, strict=True):
        axes.plot(line.x, line.y, color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(line.x, running_mean(line.y), color=colour, linewidth=1.8, label=line.label)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.01)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=min(4, len(lines)), fontsize=8.5)
    return as_svg(figure, "curves")


def series_colours(count: int) -> list[str]:
    """Return the first `count` colours of the charts; they repeat after the last one."""
    return [SERIES[index % len(SERIES)] for index in range(count)]


def running_mean(values: Sequence[float]) -> list[float]:
    """Return the mean of a centred window of about a twentieth of the series around each value."""
    series = np.asarray(values, dtype=float)
    half = max(1, math.ceil(len(series) / 40))
    totals = np.concatenate([[0.0], np.cumsum(series)])
    left = np.clip(np.arange(len(series)) - half, 0, None)
    right = np.clip(np.arange(len(series)) + half + 1, None, len(series))
    return list((totals[right] - totals[left]) / (right - left))


@mpl.rc_context(STYLE)
def stacked_bars(values: Sequence[StackedBar], *, names: Sequence[str], x_label: str) -> str:
    """Draw horizontal bars below each other, each stacked from the named parts."""
    figure, axes = _axes(8.4, 0.9 + 0.4 * len(values))
    start = np.zeros(len(values))
    for index, (name, colour) in enumerate(zip(names, series_colours(len(names)), strict=True)):
        width = np.array([value.parts[index] for value in values])
        axes.barh(range(len(values)), width, left=start, height=0.62, color=colour, label=name)
        start += width
    axes.set_yticks(range(len(values)), [value.label for value in values])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=x_label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), fontsize=8.5)
    return as_svg(figure, f"stacked_bars {x_label} {' '.join(names)}")


@mpl.rc_context(STYLE)
def bars(values: Sequence[Bar], *, y_label: str, highlighted: str, plain: str, starred: str) -> str:
    """Draw numbered bars, the highlighted ones in the accent colour, the starred ones marked under their number."""
    figure, axes = _axes(8.4, 3.0)
    for label, want, colour in ((plain, False, MUTED), (highlighted, True, BLUE)):
        chosen = [index for index, bar in enumerate(values) if bar.highlighted is want]
        if chosen:
            axes.bar(chosen, [values[i].height for i in chosen], width=0.68, color=colour, alpha=0.9, label=label)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    _number(axes, [bar.starred for bar in values], starred)
    axes.set(ylabel=y_label)
    axes.legend(loc="best", fontsize=8.5)
    return as_svg(figure, "bars")


def _number(axes: Axes, starred: Sequence[bool], meaning: str) -> None:
    labels = [f"{index}\n◆" if star else str(index) for index, star in enumerate(starred)]
    axes.set_xticks(range(len(starred)), labels, linespacing=1.1)
    axes.set_xlim(-0.6, len(starred) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"block   (◆ {meaning})" if any(starred) else "block")


@mpl.rc_context(STYLE)
def histogram(groups: Sequence[Distribution], *, x_label: str, y_label: str, bins: int = 24) -> str:
    """Draw a stacked histogram of positive values over logarithmic bins common to all groups."""
    figure, axes = _axes(8.4, 3.2)
    every = np.concatenate([np.asarray(group.values, float) for group in groups])
    low, high = float(every.min()), float(every.max())
    edges = np.geomspace(low * 0.95, high * 1.05, bins + 1)
    axes.hist(
        [list(group.values) for group in groups], bins=list(edges), stacked=True,
        color=series_colours(len(groups)), label=[f"{group.label} ({len(group.values):,})" for group in groups],
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if high < 20 * low else ""))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8.5)
    return as_svg(figure, "histogram")


@mpl.rc_context(STYLE)
def block_widths(widths: Sequence[int], full: Sequence[int], *, starred: Sequence[bool], meaning: str) -> str:
    """Draw every block's MLP width inside the outline of the full network's; a width of 0 is a dropped block."""
    figure, axes = _axes(8.4, 2.7)
    top = max(full)
    for index, (width, most) in enumerate(zip(widths, full, strict=True)):
        dropped = width == 0
        axes.add_patch(
            Rectangle(
                (index - 0.4, 0), 0.8, most, facecolor="none" if dropped else RULE, edgecolor=MUTED,
                linewidth=0.8 if dropped else 0, linestyle=(0, (3, 3)), alpha=1 if dropped else 0.45,
            )
        )  # fmt: skip
        axes.add_patch(Rectangle((index - 0.4, 0), 0.8, width, facecolor=BLUE, linewidth=0))
        axes.annotate(
            "dropped" if dropped else str(width), (index, most / 2 if dropped else width),
            xytext=(0, 0 if dropped else 3), textcoords="offset points", ha="center",
            va="center" if dropped else "bottom", fontsize=7.5, rotation=90 if dropped else 0,
            color=MUTED if dropped else INK,
        )  # fmt: skip
    _number(axes, starred, meaning)
    axes.set(ylim=(0, top * 1.13), ylabel="MLP width")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    return as_svg(figure, "architecture")


@mpl.rc_context(STYLE)
def search_curve(
    tries: Sequence[tuple[float, float]], best: Curve, levels: Sequence[Curve], *, x_label: str, y_label: str
) -> str:
    """Draw each evaluation as a dot, the best so far as a step line, and a horizontal line at each level's first y."""
    figure, axes = _axes(8.4, 3.4)
    _dots(axes, tries, SKY, "nets measured")
    axes.step(best.x, best.y, where="post", color=BLUE, linewidth=1.8, label=best.label)
    for colour, level in zip((GREEN, MUTED, PINK), levels, strict=False):
        axes.axhline(level.y[0], color=colour, linewidth=1.1, linestyle=(0, (4, 3)), label=level.label)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.01)
    axes.legend(loc="lower right", fontsize=8.5)
    return as_svg(figure, "climb")


@mpl.rc_context(STYLE)
def share_heatmap(rows: Sequence[tuple[str, Sequence[float | None]]], *, starred: Sequence[bool], meaning: str) -> str:
    """Draw a grid of shares from 0 to 1, a row per label and a column per block; None leaves a cell empty."""
    figure, axes = _axes(8.4, 0.5 + 0.36 * max(2, len(rows)))
    for height, (_, values) in enumerate(rows):
        for block, share in enumerate(values):
            if share is None:
                continue
            axes.add_patch(Rectangle((block - 0.46, height - 0.44), 0.92, 0.88, color=BLUE, alpha=0.08, linewidth=0))
            axes.add_patch(Rectangle((block - 0.46, height - 0.44), 0.92, 0.88, color=BLUE, alpha=0.8 * share, lw=0))
            text = f"{100 * share:.0f}" if share else "·"
            axes.annotate(text, (block, height), ha="center", va="center", fontsize=7.5, color=INK)
    _number(axes, starred, meaning)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False)
    return as_svg(figure, "shares")


@mpl.rc_context(STYLE)
def occupancy(moments_s: Sequence[float], busy: Sequence[int], workers: int) -> str:
    """Draw the number of busy workers over time; `busy[i]` holds from `moments_s[i]` on."""
    figure, axes = _axes(8.4, 2.2)
    axes.fill_between(moments_s, busy, step="post", color=BLUE, alpha=0.35, linewidth=0)
    axes.axhline(workers, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlabel="seconds since the first network was handed out", ylabel="busy workers", ylim=(0, workers * 1.08))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    return as_svg(figure, "occupancy")
