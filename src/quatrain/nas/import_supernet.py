"""A trained supernet taken over into another run's folder, so that every step of a study works there."""

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
"""Weights that are taken over beside the supernet where they are there: for the networks to compare with."""


def adopt(folder: str, source: str, data: str | None, images: int) -> dict[str, Any]:
    """Make `folder` a study of the supernet in `source`, with at most `images` validation images.

    The images are the supernet's own, in the same parts; with `data` others, dealt anew. Weights are linked, or copied
    where the two folders lie on different file systems.

    Returns the split's sizes, the space and the images that were passed over.

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
    dealt = replace(ours.split, validation=ours.split.validation[:images])
    ours = replace(ours, split=dealt, space=space)
    _link(theirs, ours)
    ours.write()
    return {
        "data": ours.config.data,
        "model": ours.config.model,
        "split": {part: len(getattr(dealt, part)) for part in ("train", "validation", "test")},
        "skipped": [f"{skip.name}: {skip.reason}" for skip in ours.images.skipped],
        "space": {**asdict(space), "global_blocks": ours.sam.global_blocks},
    }


def _check_trained(study: NasStudy) -> None:
    path = study.checkpoints / "supernet.pt"
    state, steps = checkpoint.load(path), study.config.train.steps
    if not isinstance(state.get("model"), dict):
        raise UsageError(f"{str(path)!r} is no supernet: it holds no 'model'")
    if state.get("step", steps) < steps:
        raise UsageError(f"{str(path)!r} is at step {state['step']} of {steps}: go on with that run's --resume first")
    study.network("supernet")


def _link(theirs: NasStudy, ours: NasStudy) -> None:
    ours.checkpoints.mkdir(parents=True, exist_ok=True)
    for weights in ("supernet", *KEPT):
        source, target = (study.checkpoints / f"{weights}.pt" for study in (theirs, ours))
        if source.exists() and not target.exists():
            try:
                os.link(source, target)  # checkpoints are replaced, never written to, so a shared file stays as it is
            except OSError:
                shutil.copyfile(source, target)
