"""Rows of DGL's distributed tensors, those of other machines by mail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quatrain.graph.library import dgl
from quatrain.graph.mail import REQUESTS, Mail

rpc: Any = dgl.distributed.rpc

ROWS = REQUESTS + 1


class Numbers(rpc.Response):  # type: ignore[misc]  # DGL ships no types
    """Answer to Rows: their numbers, one row after the other.

    DGL's own answer keeps their shape, which ends the server where it is (1, F): torch hands such a tensor over with
    other strides than those that DGL takes for contiguous.
    """

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat

    def __getstate__(self) -> Tensor:
        return self.flat

    def __setstate__(self, state: Tensor) -> None:
        self.flat = state


class Rows(rpc.Request):  # type: ignore[misc]  # DGL ships no types
    """Ask the machine that holds some vertices for their rows of a tensor."""

    def __init__(self, name: str, vertices: Tensor) -> None:
        self.name, self.vertices = name, vertices

    def __getstate__(self) -> tuple[str, Tensor]:
        return self.name, self.vertices

    def __setstate__(self, state: tuple[str, Tensor]) -> None:
        self.name, self.vertices = state

    def process_request(self, server_state: Any) -> Numbers:
        """Take the rows out on the server."""
        store = server_state.kv_store
        local = store.part_policy[self.name].to_local(self.vertices)
        return Numbers(store.data_store[self.name][local].flatten())


@functools.cache
def register() -> None:
    """Make the request known to DGL, in servers and trainers alike."""
    rpc.register_service(ROWS, Rows, Numbers)


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
        key, shape = self._tensor.kvstore_key, (-1, *self._tensor.shape[1:])
        letters = self._mail.post([(number, Rows(key, asked[number])) for number in away])

        def rows() -> Tensor:
            answers = zip(away, self._mail.collect(letters), strict=True)
            got: dict[int, Tensor] = {number: answer.flat.view(shape) for number, answer in answers}
            if own in asked:
                got[own] = self._tensor.local_partition[self._policy.to_local(asked[own])]
            if len(got) == 1:
                return next(iter(got.values()))
            out = torch.empty((len(vertices), *shape[1:]), dtype=self._tensor.dtype)
            for number, its in got.items():
                out[at[number]] = its
            return out

        return rows
