"""Requests to the servers of other machines whose answers are collected when they are needed, in any order.

DistDGL's own calls send and then wait for what comes next. Here the thread that talks to DGL works on between sending
and collecting. No call of DGL's own that waits may come in between, since it would take these answers for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quatrain.graph.library import dgl

rpc: Any = dgl.distributed.rpc


class Mail:
    """The post of one process; for one thread at a time."""

    def __init__(self) -> None:
        self._early: dict[int, Any] = {}

    def post(self, requests: Sequence[tuple[int, Any]]) -> list[int]:
        """Send each request to its machine; return the numbers by which the answers are collected."""
        return list(rpc.send_requests_to_machine(requests))

    def collect(self, numbers: Sequence[int]) -> list[Any]:
        """Wait until the answers are there and return them, in the order of `numbers`; each is given once."""
        for number in numbers:
            while number not in self._early:
                self._receive()
        return [self._early.pop(number) for number in numbers]

    def _receive(self) -> None:
        message = rpc.recv_rpc_message()
        kind = rpc.get_service_property(message.service_id)[1]
        self._early[message.msg_seq] = rpc.deserialize_from_payload(kind, message.data, message.tensors)


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
        numbers = self._mail.post([(number, pull(self._tensor.kvstore_key, asked[number])) for number in away])

        def rows() -> Tensor:
            answers = dict(zip(away, self._mail.collect(numbers), strict=True))
            got: dict[int, Tensor] = {number: answer.data_tensor for number, answer in answers.items()}
            if own in asked:
                got[own] = self._tensor.local_partition[self._policy.to_local(asked[own])]
            if len(got) == 1:
                return next(iter(got.values()))
            out = torch.empty((len(vertices), *self._tensor.shape[1:]), dtype=self._tensor.dtype)
            for number, its in got.items():
                out[at[number]] = its
            return out

        return rows
