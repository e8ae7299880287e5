"""The Segment Anything Model: shapes, construction, weights, and fast exact mask generation.

`SamPredictor`, `SamAutomaticMaskGenerator` and the other names below are segment_anything's own classes, imported when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quatrain.sam.official import Sam, SamAutomaticMaskGenerator, SamPredictor, sam_model_registry

__all__ = ["Sam", "SamAutomaticMaskGenerator", "SamPredictor", "sam_model_registry"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from quatrain.sam import official  # torch only when it is needed

        return getattr(official, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
