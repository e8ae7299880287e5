"""quatrain: HPC workflows for foundation-model and graph research, on Parsl."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quatrain.sam.official import Sam

__version__ = "0.1.0"
__all__ = ["load_sam"]


def load_sam(path: str | os.PathLike[str]) -> Sam:
    """Return the Sam that a nas run extracted, for segment_anything's SamPredictor and SamAutomaticMaskGenerator."""
    from quatrain.sam.build import load_sam as load  # torch only when it is needed

    return load(path)
