"""The history of a search from its plain files: best score by images, widths of good networks, busy workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from quatrain.search.neighbours import options
from quatrain.supernet.space import Space, Subnet

Line = Mapping[str, Any]
GOOD = 0.2
"""Share of the networks, the best by score, that count as good."""


@dataclass(kw_only=True, slots=True)
class SearchCurve:
    """Scores of a search by the images that it measured; one entry per network measured on all images."""

    images: list[int] = field(default_factory=list)
    """Images measured so far."""
    scores: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    nets: int = 0
    """Networks measured on any images."""
    spent: int = 0
    """Images measured in all."""


def search_curve(lines: Iterable[Line], admitted: Mapping[str, bool]) -> SearchCurve:
    """Return the best score within the bounds by images measured; `admitted` has False for keys outside of the bounds.

    Networks that the search did not propose are left out.
    """
    found, seen = SearchCurve(), dict[str, int]()
    for line in lines:
        if line.get("event") not in ("part", "record") or not line.get("proposed", True):
            continue
        key, metrics = line["key"], line["metrics"]
        images = int(metrics.get("images", 1))
        found.nets += key not in seen
        found.spent += images - seen.get(key, 0)
        seen[key] = images
        if line["event"] == "record":
            score = _score(line, metrics)
            best = found.best[-1] if found.best else score
            found.images.append(found.spent)
            found.scores.append(score)
            found.best.append(max(score, best) if admitted.get(key, True) else best)
    return found


def _score(line: Line, metrics: Line) -> float:
    return float(metrics[line.get("objective", "miou_oracle")])


def popular(space: Space, nets: Sequence[tuple[Subnet, float]]) -> list[tuple[int, list[float | None]]]:
    """Return for every width, from 0 (dropped) upwards, the share of the good networks that has it, by block.

    The share is None for a width that a block cannot have. `nets` are networks with their scores.
    """
    best = sorted(nets, key=lambda one: (-one[1], one[0].key))[: max(1, round(GOOD * len(nets)))]
    widths = sorted({width for block in range(space.depth) for width in options(space, block)})
    rows = []
    for width in widths:
        shares: list[float | None] = [
            sum(net.widths[block] == width for net, _ in best) / len(best) if width in options(space, block) else None
            for block in range(space.depth)
        ]
        rows.append((width, shares))
    return rows


def occupied(events: Iterable[Line], prefix: str) -> tuple[list[float], list[int]]:
    """Return times in seconds since the first task was submitted, and the number of running tasks from each on.

    `events` are lines of events.jsonl; tasks whose name begins with `prefix` count. A task that was lost with its
    driver ends when the next driver starts.
    """
    changes: list[tuple[float, int]] = []
    running: set[str] = set()
    first = None
    for line in sorted((line for line in events if "time" in line), key=lambda line: line["time"]):
        at, task, state = _seconds(line["time"]), str(line.get("task") or ""), line.get("state")
        if state == "resumed":
            changes += [(at, -1)] * len(running)
            running.clear()
        if not task.startswith(prefix):
            continue
        first = at if first is None else first
        if state == "running" and task not in running:
            running.add(task)
            changes.append((at, 1))
        elif state in ("done", "failed", "retried") and task in running:
            running.discard(task)
            changes.append((at, -1))
    return _summed(changes, first or 0.0)


def _summed(changes: Sequence[tuple[float, int]], first: float) -> tuple[list[float], list[int]]:
    moments, busy, now = [], [], 0
    for at, change in sorted(changes):
        now += change
        moments.append(at - first)
        busy.append(now)
    return moments, busy


def busy_share(moments: Sequence[float], busy: Sequence[int], workers: int) -> float:
    """Return the share of the workers' time spent on tasks, 0 to 1, from the first change to the last."""
    if len(moments) < 2 or moments[-1] <= moments[0]:
        return 0.0
    spans = [later - sooner for sooner, later in pairwise(moments)]
    worked = sum(span * count for span, count in zip(spans, busy, strict=False))
    return worked / (workers * (moments[-1] - moments[0]))


def _seconds(utc: str) -> float:
    return datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()
