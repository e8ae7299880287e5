"""Rows of DGL's distributed tensors by asynchronous RPC, as float32 or float16."""

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

FLOAT16_FEATURES = f"{FEATURES}-float16"
"""Name of the float16 copy among the servers' tensors."""


class DistTensorFeatures:
    """Source of the rows of one distributed tensor; rows of other machines are read by RPC."""

    def __init__(self, tensor: Any, client: RpcClient) -> None:
        self._tensor, self._policy, self._client = tensor, tensor.part_policy, client

    def read(self, ids_n: Tensor) -> Tensor:
        """Return the rows of `ids_n`, int64 (n,), as (n, ...) in the tensor's dtype."""
        return self.read_async(ids_n)()

    def read_async(self, ids_n: Tensor) -> Callable[[], Tensor]:
        """Request the rows of other machines; return a callable that waits for them and joins all rows."""
        part_n, own = self._policy.to_partid(ids_n), rpc.get_machine_id()
        parts = torch.bincount(part_n).nonzero().flatten().tolist()
        at = {part: (part_n == part).nonzero().flatten() for part in parts} if len(parts) > 1 else {}
        ids = {part: ids_n[at[part]] if at else ids_n for part in parts}
        remote = [part for part in parts if part != own]
        pull = dgl.distributed.kvstore.PullRequest
        request_ids = self._client.send([(part, pull(self._tensor.kvstore_key, ids[part])) for part in remote])

        def wait() -> Tensor:
            answers = zip(remote, self._client.wait(request_ids), strict=True)
            rows: dict[int, Tensor] = {part: answer.data_tensor for part, answer in answers}
            if own in ids:
                rows[own] = self._tensor.local_partition[self._policy.to_local(ids[own])]
            if len(rows) == 1:
                return next(iter(rows.values()))
            out = torch.empty((len(ids_n), *self._tensor.shape[1:]), dtype=self._tensor.dtype)
            for part, part_rows in rows.items():
                out[at[part]] = part_rows
            return out

        return wait


def float16_features(graph: Any, source: Callable[[Any], FeatureSource]) -> FeatureSource:
    """Return a source of float32 rows that are transferred as float16; all trainers of the job call it together.

    `source` creates a source of a distributed tensor. ValueError when a feature does not fit float16.
    """
    full = graph.ndata[FEATURES]
    reduced = dgl.distributed.DistTensor(
        tuple(full.shape),
        torch.float16,
        FLOAT16_FEATURES,
        init_func=_zeros,
        part_policy=full.part_policy,
        persistent=True,
    )
    reduced.local_partition.copy_(to_float16(full.local_partition))  # trainers of a machine write the same values
    dist.barrier()
    return Float16Source(source(reduced))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the first content of a server's tensor; DGL sends this function by name."""
    return torch.zeros(shape, dtype=dtype)
