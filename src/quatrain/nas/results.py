"""results.h5 of a nas run: the figures of its plain files as columns.

table       the lines of table.json
search      networks in the order in which they were measured, with sizes and every metric
training    loss of every network at each step
importance  importance and drop probability of each block (0 if it is not removable)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from quatrain.files import read_json, read_lines
from quatrain.hdf5_tables import write_columns


def write_results(run_dir: str | os.PathLike[str]) -> Path:
    """Write results.h5 into a run folder, atomically, and return its path; missing parts are left out."""
    folder = Path(run_dir)
    parts = {
        "table": _json(folder / "table.json", []),
        "search": _search(folder / "search.jsonl"),
        "training": list(read_lines(folder / "training.jsonl")),
        "importance": _importance(_json(folder / "importance.json", {})),
    }
    write_columns(folder / "results.h5", {name: rows for name, rows in parts.items() if rows})
    return folder / "results.h5"


def _json(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.exists() else otherwise


def _search(path: Path) -> list[dict[str, Any]]:
    records = [line for line in read_lines(path) if line.get("event") == "record"]
    plain = ({key: value for key, value in line.items() if key not in ("event", "metrics")} for line in records)
    return [{**line, **record["metrics"]} for line, record in zip(plain, records, strict=True)]


def _importance(record: dict[str, Any]) -> list[dict[str, Any]]:
    chances = dict(zip(record.get("removable", ()), record.get("probability", ()), strict=True))
    return [
        {"block": block, "importance": value, "drop_probability": float(chances.get(block, 0.0))}
        for block, value in enumerate(record.get("importance", ()))
    ]
