from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.distdgl import rpc
from quatrain.graph.distdgl.rpc import RpcClient


class FakeRpc:
    """The part of DGL's RPC that RpcClient uses; answers arrive in any order."""

    def __init__(self, order):
        self.sent, self.order = [], iter(order)

    def send_requests_to_machine(self, requests):
        first = len(self.sent)
        self.sent.extend(requests)
        return {number: number - first for number in range(first, len(self.sent))}

    def recv_rpc_message(self):
        number = next(self.order)
        return SimpleNamespace(service_id=0, msg_seq=number, data=self.sent[number], tensors=None)

    def get_service_property(self, _service_id):
        return None, SimpleNamespace

    def deserialize_from_payload(self, _kind, data, _tensors):
        return data


@given(st.permutations(range(6)), st.permutations(range(3)))
def test_answers_may_arrive_and_be_waited_for_in_any_order(arrival, waits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rpc, "rpc", FakeRpc(arrival))
        client = RpcClient()
        requests = [client.send([(0, f"{one}a"), (1, f"{one}b")]) for one in range(3)]

        for one in waits:
            assert client.wait(requests[one]) == [(0, f"{one}a"), (1, f"{one}b")]
        assert client.wait(client.send([])) == []
