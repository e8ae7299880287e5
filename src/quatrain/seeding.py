"""Random numbers from one seed and a path of names, so that no two uses share a stream and none depends on order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a seed below 2**63 that belongs to `names` under `seed`."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return the numpy generator that belongs to `names` under `seed`."""
    return np.random.default_rng(derive(seed, *names))


def torch_rng(seed: int, *names: str | int) -> torch.Generator:
    """Return the torch CPU generator that belongs to `names` under `seed`."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))
