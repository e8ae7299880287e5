"""Semantic boosting of micrograph segmentation."""

from quatrain.micrograph.boost import BoostResult, boost
from quatrain.micrograph.config import BoostConfig, MergingConfig, RemovalConfig

__all__ = ["BoostConfig", "BoostResult", "MergingConfig", "RemovalConfig", "boost"]
