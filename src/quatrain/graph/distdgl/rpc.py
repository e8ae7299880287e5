"""Requests to the servers of other machines whose answers are collected when they are needed, in any order.

DistDGL's own calls send and then wait for what comes next. Here the thread that talks to DGL works on between sending
and collecting. No call of DGL's own that waits may come in between, since it would take these answers for its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quatrain.graph.distdgl.import_dgl import dgl

rpc: Any = dgl.distributed.rpc


class RpcClient:
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
