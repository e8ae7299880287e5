"""Semantic boosting of micrograph segmentation."""

from quatrain.micrograph.boost import Result, boost
from quatrain.micrograph.config import BoostConfig, MergingConfig, RemovalConfig

__all__ = ["BoostConfig", "MergingConfig", "RemovalConfig", "Result", "boost"]
