"""report.html of an autotune run: the front beside luck, the way there, what good networks share, who worked when.

Nothing here needs torch. Every part stands on its own files, as in the report of a nas run.
"""

from __future__ import annotations

import os
from pathlib import Path

from quatrain.report.folder import RunFolder, section
from quatrain.report.page import Page, write
from quatrain.supernet.report import made, net_table, net_widths


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write report.html into a run folder, atomically, and return its path; missing parts leave their sections out."""
    folder = RunFolder(Path(run_dir))
    path = folder.path / "report.html"
    write(_page(folder), path)
    return path


def _page(folder: RunFolder) -> Page:
    return Page(
        title=f"quatrain autotune: {folder.path.resolve().name}",
        kicker="quatrain autotune",
        headline="",
        command=f"quatrain autotune {folder.command}",
        sections=tuple(
            section(title, make, folder)
            for title, make in (
                ("The nets side by side", net_table),
                ("The net that was found", net_widths),
                ("How it was made", made),
            )
        ),
        footer="Made by quatrain.",
    )
