"""Reads a run folder for a report; any file may be missing or incomplete."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.files import read_json, read_lines
from quatrain.report.page import Note, Page, Section, write
from quatrain.report.text import duration


class Missing(Exception):  # noqa: N818 - an absent part is not an error
    """A section of a report cannot be written; the message follows "Left out:"."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The plain files of one run."""

    path: Path

    def json(self, name: str) -> Any:
        """Return the content of a JSON file; raise Missing if it is absent or broken."""
        try:
            return read_json(self.path / name)
        except FileNotFoundError:
            raise Missing(f"the run has written no {name}") from None
        except ValueError:
            raise Missing(f"{name} cannot be read") from None

    def mapping(self, name: str) -> dict[str, Any]:
        """Return the object that a JSON file holds; an empty one if it is absent, broken or not an object."""
        try:
            value = self.json(name)
        except Missing:
            return {}
        return value if isinstance(value, dict) else {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the objects of a JSON file that holds a list of them; raise Missing if the list is empty."""
        value = self.json(name)
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        if not rows:
            raise Missing(f"{name} holds nothing")
        return rows

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the objects of a file of JSON lines; incomplete lines are skipped, a missing file is empty."""
        return [line for line in read_lines(self.path / name) if isinstance(line, dict)]

    @property
    def command(self) -> str:
        """The command-line arguments of the run after the workflow's name; empty if unknown."""
        command = self.mapping("run.json").get("command", "")
        return command if isinstance(command, str) else shlex.join(command)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return the facts of a run from run.json and summary.json: seed, state, wall time, site, versions."""
        run, summary = self.mapping("run.json"), self.mapping("summary.json")
        site, driver, seconds = run.get("site"), run.get("driver") or {}, summary.get("seconds")
        state = summary.get("state")
        items = [
            ("seed", run.get("seed")),
            (
                "state",
                None if state == "running" else state,
            ),  # the report is written while the run still has the state "running"
            ("wall time", None if seconds is None else duration(seconds)),
            ("site", site.get("name") if isinstance(site, dict) else site),
            ("started", driver.get("started")),
            ("git", _commit(run.get("git"))),
            *sorted((run.get("versions") or {}).items()),
        ]
        return tuple((name, str(value)) for name, value in items if value not in (None, ""))


def _commit(git: Any) -> str:
    """Return the short commit of run.json, with a note if files had been changed."""
    if not isinstance(git, dict):
        return str(git or "")
    return str(git.get("commit", ""))[:12] + (", with changes" if git.get("changed") else "")


def write_report_of(run_dir: str | os.PathLike[str], page: Callable[[RunFolder], Page]) -> Path:
    """Write the page of a run folder to its report.html, atomically, and return that path."""
    folder = RunFolder(Path(run_dir))
    path = folder.path / "report.html"
    write(page(folder), path)
    return path


def section(title: str, make: Callable[[str, RunFolder], Section], folder: RunFolder) -> Section:
    """Return the section from `make`, or a section with the reason why it is left out."""
    try:
        return make(title, folder)
    except Missing as missing:
        return Section(title=title, blocks=(Note(text=f"Left out: {missing}."),))
