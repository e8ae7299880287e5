"""One class per vertex from the labels of a file, and the map from classes to what the file says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.graph.dataset.arrays import Array, Ints, whole_numbers

UNKNOWN = -1
"""The class of a vertex without a label."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels as training takes them."""

    labels: Ints
    """(V,): 0 to count - 1, or UNKNOWN."""
    count: int
    names: tuple[int | str, ...] | None
    """What the file calls each class, if the classes were renumbered."""
    warnings: tuple[str, ...] = ()


def classes_of(values: Array, known: int | None = None) -> Classes:
    """Return the classes of labels (V,) or (V, 1): whole numbers, names, or one-hot rows (V, C).

    -1 and NaN mean unknown. Numbers with gaps and names are renumbered from 0 in sorted order. `known` is the number
    of classes of a published data set, whose numbers stay as they are.

    Raises
    ------
    ValueError
        When a vertex has several targets, a label is a fraction or negative, or fewer than two classes are in use.
    """
    warnings: list[str] = []
    if values.ndim == 2 and values.shape[1] > 1:
        values = _from_one_hot(values)
        warnings.append("labels are one-hot rows: the column of the 1 is the class")
    values = values.reshape(-1)
    names = values.astype(str) if values.dtype.kind in "OUS" else None
    if names is not None:
        empty = np.isin(names, ["", "nan", "None"])
        kinds, indices = np.unique(names[~empty], return_inverse=True)
        labels = np.full(len(names), UNKNOWN, np.int64)
        labels[~empty] = indices
        in_use: tuple[int | str, ...] = tuple(map(str, kinds))
    else:
        labels = _numbers(values)
        used = np.unique(labels[labels != UNKNOWN])
        in_use = tuple(map(int, used))
    if len(in_use) < 2:
        raise ValueError(f"labels hold {len(in_use)} class{'es' * (not in_use)} in use; training needs at least two")
    if known is not None and names is None:
        if int(in_use[-1]) >= known:
            raise ValueError(f"labels run to {in_use[-1]}; the published data set has {known} classes from 0")
        return Classes(labels, known, None, tuple(warnings))
    if names is None and in_use == tuple(range(len(in_use))):
        return Classes(labels, len(in_use), None, tuple(warnings))
    if names is None:
        labels = np.where(labels == UNKNOWN, UNKNOWN, np.searchsorted(used, labels))
    warnings.append(f"labels from {in_use[0]} to {in_use[-1]} are {len(in_use):,} classes: renumbered from 0")
    return Classes(labels, len(in_use), in_use, tuple(warnings))


def _from_one_hot(values: Array) -> Array:
    ones = values == 1
    if values.dtype.kind not in "biuf" or not ((ones | (values == 0)).all() and (ones.sum(axis=1) == 1).all()):
        raise ValueError(
            f"labels have {values.shape[1]} columns (several targets per vertex); gnn learns one class per vertex: "
            "give one column"
        )
    return np.asarray(ones.argmax(axis=1))


def _numbers(values: Array) -> Ints:
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), UNKNOWN, values)
    labels = whole_numbers(values, "labels", "vertex")
    if (labels < UNKNOWN).any():
        count, low = int((labels < UNKNOWN).sum()), int(labels.min())
        raise ValueError(f"{count:,} labels are below -1 (down to {low}); -1 or NaN means unknown")
    return labels
