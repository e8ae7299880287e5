"""Rows of DGL's distributed tensors, those of other machines by mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.partition import FEATURES
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.features.source import FeatureSource, Float16Source, to_float16

rpc: Any = dgl.distributed.rpc


class DistTensorFeatures:
    """Rows of one of DGL's distributed tensors, those of other machines by mail."""

    def __init__(self, tensor: Any, mail: RpcClient) -> None:
        self._tensor, self._policy, self._mail = tensor, tensor.part_policy, mail

    def read(self, vertices: Tensor) -> Tensor:
        """Return the rows of `vertices`, int64 (n,), as (n, ...) in the tensor's dtype."""
        return self.ask(vertices)()

    def ask(self, vertices: Tensor) -> Callable[[], Tensor]:
        """Send for the rows of other machines; return what waits for them and puts all together."""
        part, own = self._policy.to_partid(vertices), rpc.get_machine_id()
        parts = torch.bincount(part).nonzero().flatten().tolist()
        at = {number: (part == number).nonzero().flatten() for number in parts} if len(parts) > 1 else {}
        asked = {number: vertices[at[number]] if at else vertices for number in parts}
        away = [number for number in parts if number != own]
        pull = dgl.distributed.kvstore.PullRequest
        letters = self._mail.post([(number, pull(self._tensor.kvstore_key, asked[number])) for number in away])

        def rows() -> Tensor:
            answers = zip(away, self._mail.collect(letters), strict=True)
            got: dict[int, Tensor] = {number: answer.data_tensor for number, answer in answers}
            if own in asked:
                got[own] = self._tensor.local_partition[self._policy.to_local(asked[own])]
            if len(got) == 1:
                return next(iter(got.values()))
            out = torch.empty((len(vertices), *self._tensor.shape[1:]), dtype=self._tensor.dtype)
            for number, its in got.items():
                out[at[number]] = its
            return out

        return rows


FLOAT16_FEATURES = f"{FEATURES}-float16"
"""Name of the copy among the servers' tensors."""


def float16_features(graph: Any, source: Callable[[Any], FeatureSource]) -> FeatureSource:
    """Return a source of float32 rows that travel as float16; every trainer of the job calls it, at the same time.

    `source` makes a source of a distributed tensor. ValueError when a feature does not fit float16.
    """
    whole = graph.ndata[FEATURES]
    halves = dgl.distributed.DistTensor(
        tuple(whole.shape),
        torch.float16,
        FLOAT16_FEATURES,
        init_func=_blank,
        part_policy=whole.part_policy,
        persistent=True,
    )
    halves.local_partition.copy_(to_float16(whole.local_partition))  # trainers of a machine write the same
    dist.barrier()
    return Float16Source(source(halves))


def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return what a server begins with; DGL sends this function to it by name."""
    return torch.zeros(shape, dtype=dtype)
