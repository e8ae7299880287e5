"""Import of a trained supernet into another run's folder, so that all steps of a study work there."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.nas.study import NasStudy, Weights

KEPT: tuple[Weights, ...] = ("start", "finetune")
"""Weights that are imported with the supernet if they exist, for the baselines."""


def adopt(folder: str, source: str, data: str | None, images: int) -> dict[str, Any]:
    """Make `folder` a study of the supernet in `source`, with at most `images` validation images.

    The images are those of the supernet with the same split, or those of `data` with a new one. Weights are
    hard-linked, or copied between file systems.

    Returns the split's sizes, the space and the skipped images.

    Raises
    ------
    UsageError
        When the supernet cannot be read, its training has not ended, or the images cannot be used.
    """
    theirs = NasStudy.read(source)
    space = theirs.known_space()
    _check_trained(theirs)
    if data is None:
        ours = replace(theirs, folder=Path(folder))
    else:
        ours = NasStudy.create(Path(folder), replace(theirs.config, data=data), theirs.seed)
    parts = replace(ours.split, validation=ours.split.validation[:images])
    ours = replace(ours, split=parts, space=space)
    _link(theirs, ours)
    ours.write()
    return {
        "data": ours.config.data,
        "model": ours.config.model,
        "split": {part: len(getattr(parts, part)) for part in ("train", "validation", "test")},
        "skipped": [f"{skip.name}: {skip.reason}" for skip in ours.images.skipped],
        "space": {**asdict(space), "global_blocks": ours.sam.global_blocks},
    }


def _check_trained(study: NasStudy) -> None:
    path = study.checkpoints / "supernet.pt"
    state, steps = checkpoint.load(path), study.config.train.steps
    if not isinstance(state.get("model"), dict):
        raise UsageError(f"{str(path)!r} is not a supernet: it holds no 'model'")
    if state.get("step", steps) < steps:
        raise UsageError(f"{str(path)!r} is at step {state['step']} of {steps}: finish that run with --resume first")
    study.network("supernet")


def _link(theirs: NasStudy, ours: NasStudy) -> None:
    ours.checkpoints.mkdir(parents=True, exist_ok=True)
    for weights in ("supernet", *KEPT):
        source, target = (study.checkpoints / f"{weights}.pt" for study in (theirs, ours))
        if source.exists() and not target.exists():
            try:
                os.link(source, target)  # checkpoints are replaced and never modified, so a shared file is safe
            except OSError:
                shutil.copyfile(source, target)
