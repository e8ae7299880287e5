"""The command `quatrain check`: one table of what a folder of images or a graph holds, before anything runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quatrain.data.check import FileCheck, ImagesCheck, Purpose, check_images
from quatrain.graph.dataset.check import GraphCheck, check_graph

DESCRIPTION = "Report how every file of DATA is read: kind, size, type, pixel size, truth and warnings."
EXIT_CODES = "exit codes: 0 no warnings, 1 warnings, 2 DATA cannot be used"


def command(arguments: Sequence[str]) -> int:
    """Print the check of one source; return 0, 1 with warnings, 2 when it cannot be used."""
    parser = argparse.ArgumentParser(prog="quatrain check", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("data", type=Path, metavar="DATA", help="an image, a folder, a COCO JSON or a graph folder")
    parser.add_argument("--for", dest="purpose", choices=("nas", "boost", "gnn"), help="the workflow that will read it")
    parser.add_argument("--split", help="which split of a graph to check")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    path = asked.data.expanduser()
    if asked.purpose == "gnn" or (asked.purpose is None and _is_graph(path)):
        return _report_graph(check_graph(path, asked.split), asked.json)
    return _report_images(check_images(path, asked.purpose, _progress()), asked.json)


def notice(data: str, purpose: Purpose) -> None:
    """Print how many warnings the images of a run have; nothing for synthetic images and without warnings."""
    if data.partition(":")[0] == "made":
        return
    found = check_images(Path(data).expanduser(), purpose)
    if found.warning_count:
        print(f"inputs: {found.warning_count} warnings; see them with: quatrain check {data} --for {purpose}")


def _is_graph(path: Path) -> bool:
    """Return whether a folder holds edges as a plain graph folder or an OGB folder does."""
    return path.is_dir() and (any(path.glob("edge*.*")) or (path / "raw").is_dir() or (path / "split").is_dir())


def _report_graph(check: GraphCheck, as_json: bool) -> int:
    if as_json:
        record: dict[str, Any] = {**asdict(check), "files": [], "summary": asdict(check)}
        print(json.dumps(record, indent=1))
    else:
        for name in ("vertices", "edges", "classes"):
            value = getattr(check, name)
            print(f"{name:9} {'unknown' if value is None else f'{value:,}'}")
        for split, count in check.splits.items():
            print(f"{split:9} {count:,} vertices")
        _print_notes(check.warnings, check.error)
    return 2 if check.error else int(bool(check.warnings))


def _report_images(check: ImagesCheck, as_json: bool) -> int:
    if as_json:
        print(json.dumps(check.as_json(), indent=1))
    else:
        rows = [("file", "kind", "image", "size", "type", "pixel size", "truth")]
        rows += [row for file in check.files for row in _rows(file)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        notes = [f"{file.path}: {note}" for file in check.files for note in file.warnings]
        notes += [f"{file.path}: cannot be read: {file.error}" for file in check.files if file.error]
        _print_notes([*check.warnings, *notes], check.error)
    return 2 if check.error else int(check.warning_count > 0)


def _rows(file: FileCheck) -> list[tuple[str, ...]]:
    if not file.images:
        return [(file.path, file.kind, "", "", "", "", "")]
    rows = []
    for image in file.images:
        info, size = image.info, image.info.pixel_size
        pixels = f"{info.shape[1]} x {info.shape[0]}" + (f" x {info.frames} frames" if info.frames > 1 else "")
        scale = "none: " + info.no_pixel_size
        if size is not None:
            sides = f"{size.x_nm:.6g}" if size.x_nm == size.y_nm else f"{size.x_nm:.6g} x {size.y_nm:.6g}"
            scale = f"{sides} nm ({size.source})"
        left_out = f" (left out: {info.left_out})" if info.left_out else ""
        rows.append((file.path, file.kind, info.label + left_out, pixels, info.dtype, scale, file.truth or "-"))
    return rows


def _print_notes(warnings: Sequence[str], error: str | None) -> None:
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"error: {error}" if error else f"{len(warnings)} warnings")


def _progress() -> Any:
    """Return a function that prints the share of finished files to a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{done} of {total} files" if done < total else "\r\033[K")

    return show
