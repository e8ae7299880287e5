"""Independent random streams from one seed and a path of names; they do not depend on the order of use."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Return a seed below 2**63 that belongs to `names` under `seed`."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return the numpy generator that belongs to `names` under `seed`."""
    return np.random.default_rng(derive(seed, *names))
