"""Checks of a study's inputs before a run. Nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

from quatrain.data.open import open_images
from quatrain.data.sample import read_unreadable
from quatrain.nas.config import NasConfig
from quatrain.sam.registry import check_checkpoint, shape

UNREADABLE = "unreadable.jsonl"
"""The file of a run folder that lists images that became unreadable after they were listed."""


def unreadable(folder: Path) -> list[str]:
    """Return the images that became unreadable after they were listed, each with its reason."""
    return [f"{one.name}: {one.reason}" for one in read_unreadable(folder / UNREADABLE)]


def check_inputs(config: NasConfig) -> None:
    """Raise UsageError if images or checkpoint of a study are missing or of a wrong kind; reads no pixels."""
    sam = shape(config.model)
    check_checkpoint(sam, config.checkpoint)
    open_images(config.data, size_px=sam.image_px, seed=0, count=config.images)
