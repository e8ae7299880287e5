"""OGB's table of data sets and its Evaluator, offline: the downloads and prompts of the ogb package are never reached.

The table is read without importing ogb, so that planning needs neither torch nor DGL.
"""

from __future__ import annotations

import csv
import functools
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

ACCURACY = "ogbn-arxiv"
"""A data set of one task whose metric is accuracy; the Evaluator takes its metric from a name."""


@dataclass(frozen=True, slots=True)
class OgbEntry:
    """One column of ogb's master.csv."""

    name: str
    tasks: int
    classes: int
    metric: str
    split: str
    """Name of the published split."""
    heterogeneous: bool
    binary: bool
    """Whether the raw files are .npz."""


@functools.cache
def ogb_table() -> dict[str, OgbEntry]:
    """Return OGB's node-property data sets by folder name (ogbn_arxiv); empty if the ogb package is not installed."""
    found = importlib.util.find_spec("ogb")
    if found is None or found.origin is None:
        return {}
    with (Path(found.origin).parent / "nodeproppred" / "master.csv").open(newline="", encoding="utf8") as file:
        rows = {row[0]: row[1:] for row in csv.reader(file)}
    return {
        name.replace("-", "_"): OgbEntry(
            name=name, tasks=int(rows["num tasks"][i]), classes=int(rows["num classes"][i]),
            metric=rows["eval metric"][i], split=rows["split"][i], heterogeneous=rows["is hetero"][i] == "True",
            binary=rows["binary"][i] == "True",
        )
        for i, name in enumerate(rows[""])
    }  # fmt: skip


def nodeproppred() -> ModuleType:
    """Return ogb.nodeproppred, imported without the thread that asks PyPI for a newer version."""
    blocked: dict[str, Any] = sys.modules  # None in place of a module makes its import fail
    known = "outdated" in blocked
    if not known:
        blocked["outdated"] = None
    try:
        return importlib.import_module("ogb.nodeproppred")
    finally:
        if not known:
            del blocked["outdated"]


def accuracy(true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    """Return the share of equal entries of two integer arrays (n,), computed by OGB's Evaluator."""
    evaluator = nodeproppred().Evaluator(ACCURACY)
    figure: float = evaluator.eval({"y_true": true[:, np.newaxis], "y_pred": predicted[:, np.newaxis]})["acc"]
    return figure
