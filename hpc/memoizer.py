"""Finished results of a run, stored as JSON lines by key, so that a resumed run does not repeat them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from quatrain.errors import UsageError
from quatrain.files import Journal, plain, read_lines
from quatrain.hpc import versions

FILE = "finished.jsonl"


class Memo:
    """Results by key; a key is a hash of a task's name, its arguments, the configuration and the code."""

    def __init__(self, run_dir: Path, identity: str) -> None:
        self._run_dir = str(run_dir)
        self._version = [versions.code(), identity]
        self._results = dict(_read(run_dir / FILE))
        self.of_other_code = _count_other(run_dir / FILE, versions.code())
        """Results of an earlier driver that other code computed, which are not used."""
        self._journal = Journal(run_dir / FILE)

    def key(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Return the key of a call; UsageError unless its arguments are plain data, paths or dataclasses.

        Paths inside the run folder count relative to it, so a run may be moved before it is resumed.
        """
        asked = {"task": name, "arguments": plain(arguments), "keywords": plain(keywords), "version": self._version}
        try:
            text = json.dumps(asked, sort_keys=True)
        except TypeError as error:
            raise UsageError(f"task {name!r} got an argument that is not plain data: {error}") from error
        return hashlib.sha256(text.replace(json.dumps(self._run_dir)[1:-1], "RUN").encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __getitem__(self, key: str) -> Any:
        return json.loads(self._results[key])

    def remember(self, key: str | None, task: str, result: Any) -> Any:
        """Store a result under its key, if it has one, and return it as it will be read back."""
        text = json.dumps(plain(result))
        if key is not None:
            self._journal.append({"key": key, "task": task, "code": versions.code(), "result": json.loads(text)})
            self._results[key] = text
        return json.loads(text)

    def sync(self) -> None:
        """Flush the stored results to the disk (fsync)."""
        self._journal.sync()

    def close(self) -> None:
        """Sync and close."""
        self._journal.close()


def _read(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in read_lines(path) if isinstance(line, dict) and line.keys() >= {"key", "result"}]
    return [(line["key"], json.dumps(line["result"])) for line in lines]


def _count_other(path: Path, code: str) -> int:
    return sum(isinstance(line, dict) and line.get("code", code) != code for line in read_lines(path))
