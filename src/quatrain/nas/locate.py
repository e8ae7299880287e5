"""The supernet in a run folder, located from its plain files before a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cattrs

from quatrain.errors import UsageError
from quatrain.files import read_json
from quatrain.sam.registry import SamShape, shape
from quatrain.supernet.space import Space

WEIGHTS = "supernet.pt"
PORTABLE = ("study.json", "checkpoints/start.pt", f"checkpoints/{WEIGHTS}")
"""The files of a run folder that another machine needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetSource:
    """A trained supernet in the folder of its run."""

    folder: Path
    sam: SamShape
    space: Space

    @property
    def checkpoints(self) -> Path:
        """The folder of its weights."""
        return self.folder / "checkpoints"


def find(path: str | os.PathLike[str]) -> SupernetSource:
    """Return the supernet of a run folder or of the checkpoint in it.

    Raises
    ------
    UsageError
        If the path does not exist, is another kind of checkpoint, or the run has not trained a supernet.
    """
    given = Path(path)
    if not given.exists():
        raise UsageError(
            f"there is no supernet {str(given)!r}: give the folder of a nas run or its checkpoints/{WEIGHTS}"
        )
    if given.is_file() and given.name != WEIGHTS:
        raise UsageError(
            f"{str(given)!r} is not a supernet: give the folder of a nas run or its checkpoints/{WEIGHTS}; "
            "`quatrain nas --checkpoint` makes one from a SAM"
        )
    folder = given.resolve().parents[1] if given.is_file() else given
    if not (folder / "study.json").exists():
        raise UsageError(
            f"{str(given)!r} is not a supernet: no study.json has its space; give the folder of a nas run, "
            f"or a copy with {', '.join(PORTABLE)}"
        )
    if not (folder / "checkpoints" / WEIGHTS).exists():
        raise UsageError(f"{str(folder)!r} has trained no supernet yet: finish it with `quatrain nas --resume` first")
    if missing := [name for name in PORTABLE if not (folder / name).exists()]:
        raise UsageError(f"{str(folder)!r} lacks {missing[0]}: copy it from the run that trained the supernet")
    return _read(folder)


def _read(folder: Path) -> SupernetSource:
    path = folder / "study.json"
    try:
        record = read_json(path)
        space = cattrs.structure(record["space"], Space)
        return SupernetSource(folder=folder, sam=shape(record["config"]["model"]), space=space)
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not of this version of quatrain: {error}") from error
