"""Writes tables as HDF5: one group per table, one dataset per column."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quatrain.files import replacing

Rows = Sequence[Mapping[str, Any]]
"""Lines of a table: column names to numbers, texts or None."""


def write_columns(
    path: str | os.PathLike[str],
    tables: Mapping[str, Rows],
    *,
    attributes: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> None:
    """Write tables into one HDF5 file, atomically; every column is as long as its table.

    `attributes` are set on the file. `links` maps group names to other HDF5 files, relative to this one. Columns of
    integers are int64, those of other numbers float64 with NaN for missing values, those of truth values bool. All
    other columns are UTF-8 text, empty for missing values.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, rows in tables.items():
            group = file.create_group(name)
            for column in dict.fromkeys(key for row in rows for key in row):
                values = [row.get(column) for row in rows]
                group.create_dataset(column.replace("/", "_"), data=_column(values), dtype=_dtype(values))
        file.attrs.update(attributes or {})
        for name, target in (links or {}).items():
            file[name] = h5py.ExternalLink(target, "/")


def _dtype(values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values}
    for dtype, members in (("bool", {bool}), ("int64", {int}), ("float64", {int, float, type(None)})):
        if kinds <= members and kinds != {type(None)}:
            return dtype
    return h5py.string_dtype()


def _column(values: Sequence[Any]) -> NDArray[Any] | list[Any]:
    if isinstance(dtype := _dtype(values), str):
        return np.asarray([np.nan if value is None else value for value in values], dtype)
    return ["" if value is None else str(value) for value in values]
