"""Features that travel as float16: a second copy of every part in half the bytes, beside the one that training reads.

LOSSY, so never unless asked for: a number keeps 11 of its 24 bits, a relative error of at most 2^-11 (absolute 2^-25
below 2^-14). A machine's own features stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from quatrain.graph.library import dgl
from quatrain.graph.partition import FEATURES
from quatrain.graph.source import FeatureSource, HalfSource, to_half

HALVES = f"{FEATURES}-float16"
"""Name of the copy among the servers' tensors."""


def halved(graph: Any, source: Callable[[Any], FeatureSource]) -> FeatureSource:
    """Return a source of float32 rows that travel as float16; every trainer of the job calls it, at the same time.

    `source` makes a source of a distributed tensor. ValueError when a feature does not fit float16.
    """
    whole = graph.ndata[FEATURES]
    halves = dgl.distributed.DistTensor(
        tuple(whole.shape), torch.float16, HALVES, init_func=_blank, part_policy=whole.part_policy, persistent=True
    )
    halves.local_partition.copy_(to_half(whole.local_partition))  # trainers of a machine write the same
    dist.barrier()
    return HalfSource(source(halves))


def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return what a server begins with; DGL sends this function to it by name."""
    return torch.zeros(shape, dtype=dtype)
