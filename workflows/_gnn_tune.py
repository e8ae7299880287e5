"""`quatrain gnn tune TRACE`: ranks cache configurations by replaying a recorded trace."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from quatrain.graph.tuning import tune as tuning
from quatrain.graph.tuning.tune import TuneConfig
from quatrain.hpc.flags import parse_flags


@dataclass(frozen=True, kw_only=True, slots=True)
class Tune:
    """The recorded trace and the configurations to try on it."""

    trace: tyro.conf.Positional[Path]
    """A file of traces/ of a run with --record-trace."""
    out: Path | None = None
    """Also write the ranking there: NAME.json or NAME.csv."""
    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    """The configurations to try."""


def tune(given: list[str]) -> None:
    """Replay a trace and print the predicted result of each configuration, the fastest first."""
    asked = parse_flags(Tune, given, prog="quatrain gnn tune", description=(tune.__doc__ or ""))
    ranked = tuning.tune(asked.trace, asked.config, advance=show_progress)
    print(tuning.table(ranked))
    if asked.out is not None:
        tuning.write_ranked(ranked, asked.out)


def show_progress(done: int, total: int) -> None:
    """Print how many replays are done."""
    print(f"\rreplayed {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
