"""One sandwich step: forward and backward passes of several sub-networks; shared work is done once.

The sandwich rule (US-Nets, BigNAS; SuperSAM's section on training) adds up the gradients of the largest, the
smallest and some random networks before one update. Networks that agree on their leading blocks have the same
residual stream there, so they form a tree. The tree runs from the root. At a fork each branch runs forward and
backward before the next branch starts. The gradients add up at the fork, and the shared part runs backward once with
their sum. The autograd graph of only one network exists at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Subnet

Loss = Callable[[int, Subnet, Tensor], Tensor]
"""Maps a network's position in the step, the network and its embedding (B, prompt_dim, H, W) to a scalar."""


def sandwich_backward(
    encoder: ElasticEncoder, image_B3SS: Tensor, subnets: Sequence[Subnet], loss: Loss
) -> list[float]:
    """Add the gradients of every network's loss to the encoder's and return the losses, in the order of `subnets`.

    The gradients equal the sum of those of separate passes. `subnets[0]` runs first, so `loss` may keep its detached
    output and distil the others from it. Modules that `loss` runs (a mask decoder) receive gradients too. Raise
    ValueError without networks or for one that does not fit the encoder. Gradients are not averaged across ranks.
    """
    if not subnets:
        raise ValueError("subnets is empty; a step takes at least one network")
    for subnet in subnets:
        encoder.check(subnet)
    tree = _Tree(encoder, subnets, loss)
    tree.grow(0, encoder.embed(image_B3SS), tuple(range(len(subnets))))
    return [float(tree.losses[member]) for member in range(len(subnets))]


class _Tree:
    """The networks of one step, run from the root to the leaves."""

    def __init__(self, encoder: ElasticEncoder, subnets: Sequence[Subnet], loss: Loss) -> None:
        self.losses: dict[int, Tensor] = {}
        self._encoder = encoder
        self._subnets = subnets
        self._loss = loss

    def grow(self, index: int, x_BHWC: Tensor, members: tuple[int, ...]) -> None:
        """Run `members`, which share the stream before block `index`, forward and back to the last fork."""
        while index < self._encoder.shape.depth:
            widths = sorted({self._subnets[member].widths[index] for member in members})
            if len(widths) > 1:
                self._part(index, x_BHWC, members, widths)
                return
            if widths[0]:
                (x_BHWC,) = self._encoder.block(index, x_BHWC, (widths[0],))
            index += 1
        self._finish(x_BHWC, members)

    def _part(self, index: int, x_BHWC: Tensor, members: tuple[int, ...], widths: list[int]) -> None:
        """Fork at block `index`: first networks that drop it from the others, then by the width of its MLP."""
        if widths[0]:
            outs = self._encoder.block(index, x_BHWC, tuple(widths))
            groups = [self._having(members, index, {width}) for width in widths]
            self._fork(outs, [(place, group, index + 1) for place, group in enumerate(groups)])
        else:
            dropped, kept = self._having(members, index, {0}), self._having(members, index, set(widths[1:]))
            self._fork((x_BHWC,), [(0, dropped, index + 1), (0, kept, index)])

    def _having(self, members: tuple[int, ...], index: int, widths: set[int]) -> tuple[int, ...]:
        return tuple(member for member in members if self._subnets[member].widths[index] in widths)

    def _fork(self, streams: tuple[Tensor, ...], branches: list[tuple[int, tuple[int, ...], int]]) -> None:
        """Run the branches (stream, members, next block) in turn, then the shared part backward once."""
        leaves = [stream.detach().requires_grad_(stream.requires_grad) for stream in streams]
        for place, members, index in sorted(branches, key=lambda branch: branch[1]):
            self.grow(index, leaves[place], members)
        self._backward(streams, [leaf.grad for leaf in leaves])

    def _finish(self, x_BHWC: Tensor, members: tuple[int, ...]) -> None:
        embedding_BCHW = self._encoder.readout(x_BHWC)
        losses = [self._loss(member, self._subnets[member], embedding_BCHW) for member in members]
        self.losses.update((member, value.detach()) for member, value in zip(members, losses, strict=True))
        self._backward(losses, [None] * len(losses))

    @staticmethod
    def _backward(tensors: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
        """Run backward from the tensors that have a graph, outside autocast as torch recommends."""
        pairs = [(tensor, grad) for tensor, grad in zip(tensors, grads, strict=True) if tensor.requires_grad]
        if pairs:
            with torch.autocast(pairs[0][0].device.type, enabled=False):
                torch.autograd.backward([tensor for tensor, _ in pairs], [grad for _, grad in pairs])
