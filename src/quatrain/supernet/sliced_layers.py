"""Layers on prefix slices of shared weights that keep few activations for the backward pass.

Layer normalisation and GELU are cheap beside the matrix products around them. So the backward pass recomputes their
outputs instead of keeping them. The slices are views: no weight is copied.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def norm_linear(x: Tensor, norm: nn.LayerNorm, linear: nn.Linear, width: int) -> Tensor:
    """Return the first `width` outputs of `linear(norm(x))`, (..., width), in autocast's dtype if it is enabled."""
    out: Tensor = _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, linear.weight, linear.bias, width)  # type: ignore[no-untyped-call]
    return out


def gelu_linear(hidden: Tensor, linear: nn.Linear, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return `linear(gelu(hidden))` over the first k hidden channels for each k of `widths`, which ascend.

    Each width continues the sum of the previous one, so all of them cost as much as the last alone.
    `hidden` is (..., widths[-1]); every result is (..., outputs).
    """
    outs: tuple[Tensor, ...] = _GeluLinear.apply(hidden, linear.weight, linear.bias, widths)  # type: ignore[no-untyped-call]
    return outs


class _NormLinear(torch.autograd.Function):
    """Layer normalisation and a prefix of a linear layer's outputs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor, width: int
    ) -> Tensor:
        normed, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], gain, shift, eps)
        ctx.save_for_backward(x, gain, shift, mean, deviation, weight)
        ctx.eps, ctx.width, ctx.dtype = eps, width, _dtype(x)
        return functional.linear(normed.to(ctx.dtype), weight[:width].to(ctx.dtype), bias[:width].to(ctx.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, mean, deviation, weight = ctx.saved_tensors
        flat = grad.reshape(-1, ctx.width)
        normed = torch.native_layer_norm(x, x.shape[-1:], gain, shift, ctx.eps)[0].to(ctx.dtype)
        grad_weight = _whole(weight, ctx.width, 0)
        _multiply(flat.T, normed.view(-1, x.shape[-1]), grad_weight[: ctx.width])
        grad_bias = _whole(weight[:, 0], ctx.width, 0)
        grad_bias[: ctx.width] = flat.sum(dim=0)
        grad_normed = (flat @ weight[: ctx.width].to(ctx.dtype)).view_as(x).to(x.dtype)
        below = torch.ops.aten.native_layer_norm_backward(
            grad_normed, x, x.shape[-1:], mean, deviation, gain, shift, [True, True, True]
        )
        return (*below, None, grad_weight, grad_bias, None)


class _GeluLinear(torch.autograd.Function):
    """GELU and a linear layer on nested prefixes of its inputs."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        ctx.save_for_backward(hidden, weight)
        ctx.widths = widths
        active = functional.gelu(hidden).view(-1, widths[-1])
        total, outs = bias.to(hidden.dtype), []
        for part in _parts(widths):
            total = torch.addmm(total, active[:, part], weight[:, part].to(hidden.dtype).T)
            outs.append(total.view(*hidden.shape[:-1], -1))
        return tuple(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        active = functional.gelu(hidden).view(-1, ctx.widths[-1])
        grad_active, grad_weight = torch.empty_like(active), _whole(weight, ctx.widths[-1], 1)
        total: Tensor | None = None
        for part, grad in reversed(list(zip(_parts(ctx.widths), grads, strict=True))):
            flat = grad.reshape(-1, weight.shape[0])
            total = flat if total is None else total + flat
            torch.mm(total, weight[:, part].to(hidden.dtype), out=grad_active[:, part])
            _multiply(total.T, active[:, part], grad_weight[:, part])
        grad_hidden = torch.ops.aten.gelu_backward(grad_active.view_as(hidden), hidden)
        return grad_hidden, grad_weight, cast(Tensor, total).sum(dim=0).to(weight.dtype), None


def _parts(widths: tuple[int, ...]) -> list[slice]:
    return [slice(low, high) for low, high in zip((0, *widths), widths, strict=False)]


def _whole(weight: Tensor, width: int, dim: int) -> Tensor:
    """Return a buffer for the gradient of a whole weight, zero beyond `width` along `dim`, else uninitialised."""
    grad = torch.empty_like(weight, memory_format=torch.contiguous_format)
    grad.narrow(dim, width, weight.shape[dim] - width).zero_()
    return grad


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write a matrix product into `out`, converting its dtype if it differs."""
    if left.dtype == out.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def _dtype(x: Tensor) -> torch.dtype:
    """Return autocast's dtype if it is enabled, else that of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
