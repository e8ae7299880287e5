"""RPC to the servers of other machines: send requests now, wait for their answers later, in any order.

DistDGL's own calls send and then wait for the next message. With this client the thread that uses DGL can work between
sending and waiting. No call of DGL that waits may run in between: it would take these answers for its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quatrain.graph.distdgl.import_dgl import dgl

rpc: Any = dgl.distributed.rpc


class RpcClient:
    """Asynchronous requests of one process; used by one thread at a time."""

    def __init__(self) -> None:
        self._early: dict[int, Any] = {}

    def send(self, requests: Sequence[tuple[int, Any]]) -> list[int]:
        """Send each (machine, request); return the request ids."""
        return list(rpc.send_requests_to_machine(requests))

    def wait(self, request_ids: Sequence[int]) -> list[Any]:
        """Return the answers in the order of `request_ids`; waits for them, and gives each answer once."""
        for request_id in request_ids:
            while request_id not in self._early:
                self._receive()
        return [self._early.pop(request_id) for request_id in request_ids]

    def _receive(self) -> None:
        message = rpc.recv_rpc_message()
        kind = rpc.get_service_property(message.service_id)[1]
        self._early[message.msg_seq] = rpc.deserialize_from_payload(kind, message.data, message.tensors)
