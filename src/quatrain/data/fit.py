"""How an image is brought to a network's square input."""

from typing import Literal

Fit = Literal["pad", "squash"]
"""Longest side resized and the rest padded, as segment_anything does, or both sides resized."""
