"""results.h5 of a boost run: every figure of its images as columns, and each image's own file under its name.

images    a line an image: outcome, scores, pixel size
ablation  a line a step of an image with truth: raw masks, each rule, merging
regions   a line a kept mask, as in regions.csv
removed   a line a mask that went, as in removed.csv
boost/    one entry an image: a link to its boost.h5, so the run folder is moved as a whole
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quatrain.columns import write_columns

Row = dict[str, Any]
SCHEMA = "quatrain-boost-run-1"
_FLAGS = {"": None, "True": True, "False": False}


def write_results(run_dir: str | os.PathLike[str], outcomes: Sequence[Row]) -> Path:
    """Write results.h5 of a run, atomically, from the outcomes and files of its images; return its path."""
    folder = Path(run_dir)
    done = [outcome["name"] for outcome in outcomes if outcome["state"] == "done"]
    tables = {
        "images": [_line(outcome) for outcome in outcomes],
        "ablation": [row for outcome in outcomes for row in _steps(outcome)],
        "regions": [row for name in done for row in _rows(folder, name, "regions.csv")],
        "removed": [row for name in done for row in _rows(folder, name, "removed.csv")],
    }
    write_columns(
        folder / "results.h5",
        tables,
        attributes={"schema": SCHEMA},
        links={f"boost/{name}": f"images/{name}/boost.h5" for name in done},
    )
    return folder / "results.h5"


def _line(outcome: Row) -> Row:
    """Return the figures of an image that are one number or text each."""
    plain = {key: value for key, value in outcome.items() if not isinstance(value, dict | list)}
    scores = outcome.get("scores") or {}
    return {**plain, **{key: scores.get(key) for key in ("ari", "boundary_f1", "contrast_to_noise", "difficulty")}}


def _steps(outcome: Row) -> Iterator[Row]:
    for place, step in enumerate((outcome.get("scores") or {}).get("ablation", ())):
        yield {"image": outcome["name"], "place": place, **step}


def _rows(folder: Path, name: str, file: str) -> Iterator[Row]:
    with (folder / "images" / name / file).open(encoding="utf8", newline="") as text:
        for row in csv.DictReader(text):
            yield {"image": name, **{key: _value(cell) for key, cell in row.items()}}


def _value(cell: str) -> Any:
    if cell in _FLAGS:
        return _FLAGS[cell]
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
