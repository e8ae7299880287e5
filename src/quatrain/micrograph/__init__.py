"""Semantic boosting of micrograph segmentation."""

from quatrain.micrograph.booster import Result, boost
from quatrain.micrograph.settings import BoostConfig, MergingConfig, RemovalConfig

__all__ = ["BoostConfig", "MergingConfig", "RemovalConfig", "Result", "boost"]
