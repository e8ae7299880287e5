"""What can be told of a study's inputs without running it. Nothing here needs torch."""

from __future__ import annotations

import os
from pathlib import Path

from quatrain.data.open import open_images
from quatrain.data.sample import noted
from quatrain.errors import UsageError
from quatrain.supernet.settings import NasConfig
from quatrain.supernet.shapes import SamShape, shape

UNREADABLE = "unreadable.jsonl"
"""Where a run folder tells of images that went bad after they were listed."""


def unreadable(folder: Path) -> list[str]:
    """Return the images of a study that went bad after they were listed, each with its reason."""
    return [f"{one.name}: {one.reason}" for one in noted(folder / UNREADABLE)]


def check_inputs(config: NasConfig) -> None:
    """Raise UsageError when images or checkpoint of a study are missing or of a wrong kind; no pixel is read."""
    sam = shape(config.model)
    check_checkpoint(sam, config.checkpoint)
    open_images(config.data, size_px=sam.image_px, seed=0, count=config.images)


def check_checkpoint(sam: SamShape, path: str | os.PathLike[str] | None) -> None:
    """Raise UsageError unless `sam` comes with the package and no file is given, or the file is there."""
    if path is None and sam.checkpoint_url is not None:
        raise UsageError(f"{sam.name} needs --checkpoint PATH: get {sam.checkpoint_url} and pass its path")
    if path is not None and sam.checkpoint_url is None:
        raise UsageError(f"{sam.name} has no official checkpoint: leave --checkpoint out")
    if path is not None and not os.path.isfile(path):
        raise UsageError(f"there is no checkpoint {os.fspath(path)!r}: check the path given by --checkpoint")
