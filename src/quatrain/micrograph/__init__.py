"""Semantic boosting of micrograph segmentation."""
