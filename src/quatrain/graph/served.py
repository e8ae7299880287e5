"""Rows of DGL's distributed tensors, those of other machines by mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quatrain.graph.library import dgl
from quatrain.graph.mail import Mail

rpc: Any = dgl.distributed.rpc


class ServedSource:
    """Rows of one of DGL's distributed tensors, those of other machines by mail."""

    def __init__(self, tensor: Any, mail: Mail) -> None:
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
