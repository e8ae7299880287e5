from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.distdgl import rpc
from quatrain.graph.distdgl.rpc import RpcClient


class Post:
    """DGL's messages as far as RpcClient sees them, whose answers come in any order."""

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
def test_answers_may_arrive_and_be_collected_in_any_order(arrival, collection):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rpc, "rpc", Post(arrival))
        post = RpcClient()
        letters = [post.post([(0, f"{one}a"), (1, f"{one}b")]) for one in range(3)]

        for one in collection:
            assert post.collect(letters[one]) == [(0, f"{one}a"), (1, f"{one}b")]
        assert post.collect(post.post([])) == []
