"""Training, validation and test vertices: ids, masks, or shares that are drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quatrain.graph.dataset.arrays import Array, Ints, whole_numbers
from quatrain.seeding import numpy_rng

PARTS = ("train", "valid", "test")


def shares(text: str) -> tuple[float, ...] | None:
    """Return the percentages of `60/20/20`, None for a name; ValueError when they are not three of at most 100."""
    if "/" not in text:
        return None
    try:
        values = tuple(float(word) for word in text.split("/"))
    except ValueError:
        values = ()
    if len(values) != len(PARTS) or min(values) <= 0 or sum(values) > 100 + 1e-9:
        raise ValueError(f"split is {text!r}; give three percentages of at most 100 in sum, as in 60/20/20")
    return values


def draw(text: str, labels: Ints, seed: int) -> dict[str, Ints]:
    """Return the splits of `60/20/20`: percentages of the labelled vertices, drawn by a seed."""
    values = shares(text)
    if values is None:
        raise ValueError(f"split is {text!r}; give three percentages, as in 60/20/20")
    order = numpy_rng(seed, "split").permutation(np.flatnonzero(labels >= 0))
    ends = np.floor(np.cumsum((0.0, *values)) / 100 * len(order) + 1e-9).astype(np.int64)
    return {name: np.sort(order[a:b]) for name, a, b in zip(PARTS, ends[:-1], ends[1:], strict=True)}


def vertex_ids(values: Array, vertices: int, name: str, column: str | None) -> tuple[Ints, list[str]]:
    """Return the sorted vertices of a split given as ids or as a mask, and warnings.

    A mask is boolean, or has the value 0 or 1 for each vertex. One with several columns, (V, S), holds S splits;
    `column` chooses one of them.
    """
    if values.ndim == 2 and 1 in values.shape:
        values = values.reshape(-1)
    if values.ndim == 2:
        if len(values) != vertices:
            raise ValueError(f"split {name!r} has the shape {values.shape}; give one column of ids or of 0 and 1")
        if column is None or not column.isdigit() or int(column) >= values.shape[1]:
            raise ValueError(f"split {name!r} has {values.shape[1]} columns; choose one by --split 0 (or 1, ...)")
        values = values[:, int(column)]
    if values.dtype == object and {str(value) for value in np.unique(values.astype(str))} <= {"True", "False"}:
        values = values.astype(str) == "True"
    if values.dtype.kind != "b":
        ids = whole_numbers(values, f"ids of split {name!r}", "entry")
        if len(ids) <= 2 or ids.min() < 0 or ids.max() > 1:
            return _distinct(ids, vertices, name)
        values = ids == 1
    if len(values) != vertices:
        raise ValueError(f"split {name!r} is a mask of {len(values):,} entries for {vertices:,} vertices")
    return np.flatnonzero(values), [f"split {name!r} is a mask: its {int(values.sum()):,} vertices are taken"]


def _distinct(ids: Ints, vertices: int, name: str) -> tuple[Ints, list[str]]:
    """Return sorted ids without repeats, and a warning about repeats; ValueError when one is not a vertex."""
    outside = (ids < 0) | (ids >= vertices)
    if outside.any():
        raise ValueError(
            f"split {name!r} names vertex {ids[outside][0]} ({int(outside.sum()):,} such entries), "
            f"but vertices are 0 to {vertices - 1:,}"
        )
    distinct = np.unique(ids)
    repeats = len(ids) - len(distinct)
    return distinct, [f"{repeats:,} entries of split {name!r} are repeats: counted once"] if repeats else []


def problem(splits: Mapping[str, Ints], labels: Ints) -> str:
    """Return why splits cannot be used: empty, overlapping or with unlabelled vertices; empty text if they can."""
    for name in PARTS:
        if not len(splits[name]):
            return f"split {name!r} is empty"
        unknown = int((labels[splits[name]] < 0).sum())
        if unknown:
            return f"split {name!r} holds {unknown:,} vertices without a label"
    for i, name in enumerate(PARTS):
        for other in PARTS[:i]:
            shared = len(np.intersect1d(splits[name], splits[other], assume_unique=True))
            if shared:
                return (
                    f"{shared:,} vertices of {name!r} are in {other!r} too: give disjoint splits, or --split 60/20/20"
                )
    return ""
