"""SAM's windowed and global attention on fused kernels, without a score-sized relative-position bias.

SAM adds to the score of query (h, w) and key (h', w') the two dot products q . R_h[h - h'] and q . R_w[w - w'].
Both are linear in q, so they fit into extra head dimensions: a query carries its products with every row and every
column, a key carries a one at its own row and its own column, and one dot product gives the whole score.

B images, H W patches, C channels; within windows and heads N, tokens T, head dimensions D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_ALIGN = 16
"""Extended head dimensions are padded to a multiple of this: the fused kernels are fastest there."""
_CACHED = 2**18
"""Scores in a block of the processor's backward pass."""


def attend(qkv_BHWC: Tensor, attention: nn.Module, window: int) -> Tensor:
    """Return what every token gathers from its window, before the output projection, (B, H, W, C).

    `qkv_BHWC` holds queries, keys and values side by side, (B, H, W, 3 C); `attention` is a segment_anything
    `Attention` (its head count, qkv bias and relative positions are used); `window` is the side of a window in
    patches, 0 for global attention. Windows at the border are completed as segment_anything does, by tokens whose
    input is zero: their keys and values are the bias and take part in the softmax.

    Only `qkv_BHWC` is kept for the backward pass; everything else is made again.
    """
    high, wide = qkv_BHWC.shape[1:3]
    span = (window, window) if window else (high, wide)
    layout = _Layout(
        grid=(high, wide),
        span=span,
        heads=int(attention.num_heads),
        dim=qkv_BHWC.shape[3] // (3 * int(attention.num_heads)),
    )
    tables = [
        _fit(table, 2 * side - 1) for table, side in zip((attention.rel_pos_h, attention.rel_pos_w), span, strict=True)
    ]
    table_PD = torch.cat([table.flip(0) for table in tables])
    dtype = qkv_BHWC.dtype
    out_BHWC: Tensor = _Attend.apply(qkv_BHWC, attention.qkv.bias.to(dtype), table_PD.to(dtype), layout)
    return out_BHWC


def _fit(table_PD: Tensor, entries: int) -> Tensor:
    """Interpolate a relative-position table linearly to `entries` rows, as segment_anything does."""
    if table_PD.shape[0] == entries:
        return table_PD
    return functional.interpolate(table_PD.T[None], size=entries, mode="linear")[0].T


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """How the grid of patches is cut into windows, and what the head dimensions hold."""

    grid: tuple[int, int]
    span: tuple[int, int]
    heads: int
    dim: int

    @property
    def windows(self) -> tuple[int, int]:
        return math.ceil(self.grid[0] / self.span[0]), math.ceil(self.grid[1] / self.span[1])

    @property
    def padded(self) -> tuple[int, int]:
        return self.windows[0] * self.span[0], self.windows[1] * self.span[1]

    @property
    def whole(self) -> bool:
        return self.padded == self.grid

    @property
    def extended(self) -> int:
        """Head dimensions with rows and columns, padded."""
        return math.ceil((self.dim + sum(self.span)) / _ALIGN) * _ALIGN

    def cut(self, map_BHWC: Tensor) -> Tensor:
        """View a padded map as windows by head, (B, windows, windows, heads, rows, columns, dim)."""
        (rows, columns), (high, wide) = self.windows, self.span
        seven = map_BHWC.unflatten(3, (self.heads, self.dim)).unflatten(2, (columns, wide)).unflatten(1, (rows, high))
        return seven.permute(0, 1, 3, 5, 2, 4, 6)

    def join(self, heads_NTD: Tensor) -> Tensor:
        """Return windows by head as a map of the real tokens, (B, H, W, heads * dim)."""
        seven = self.split(heads_NTD)[..., : self.dim].permute(0, 1, 4, 2, 5, 3, 6)
        padded_BHWC = seven.reshape(seven.shape[0], *self.padded, -1)
        return padded_BHWC[:, : self.grid[0], : self.grid[1]].contiguous()

    def split(self, heads_NTD: Tensor) -> Tensor:
        """View windows by head, (B * windows, heads, tokens, D), in the seven dimensions that `cut` gives."""
        return heads_NTD.view(-1, *self.windows, self.heads, *self.span, heads_NTD.shape[-1])

    def rows(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """View products with the table as what each query adds to each row and to each column of its window.

        `products` has the table's rows last, (..., rows, columns, 2 rows - 1 + 2 columns - 1). The table is
        reversed, so query row h meets key row h' at entry rows - 1 - h + h': one step back for each row.
        """
        high, wide = self.span
        *lead, down, right, one = products.stride()
        start = products.storage_offset()
        by_row = products.as_strided((*products.shape[:-1], high), (*lead, down - one, right, one), start + high - 1)
        first = start + 2 * high - 1 + wide - 1
        by_column = products.as_strided((*products.shape[:-1], wide), (*lead, down, right - one, one), first)
        return by_row, by_column


def _pad(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout) -> Tensor:
    """Complete the border windows with tokens that are the bias."""
    if layout.padded == layout.grid:
        return part_BHWC
    padded = bias_C.expand(part_BHWC.shape[0], *layout.padded, -1).clone()
    padded[:, : layout.grid[0], : layout.grid[1]] = part_BHWC
    return padded


def _room(part_BHWC: Tensor, layout: _Layout, extended: int) -> Tensor:
    windows = part_BHWC.shape[0] * math.prod(layout.windows)
    return part_BHWC.new_empty(windows * layout.heads, math.prod(layout.span), extended)


def _query(part_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, layout: _Layout) -> Tensor:
    """Return scaled queries with their products with every row and every column."""
    query_NTD, (high, wide), dim = _room(part_BHWC, layout, layout.extended), layout.span, layout.dim
    split = layout.split(query_NTD)
    torch.mul(layout.cut(_pad(part_BHWC, bias_C, layout)), dim**-0.5, out=split[..., :dim])
    products = query_NTD.view(-1, layout.extended)[:, :dim] @ (table_PD.T * dim**0.5)
    by_row, by_column = layout.rows(layout.split(products.view(*query_NTD.shape[:2], -1)))
    split[..., dim : dim + high] = by_row
    split[..., dim + high : dim + high + wide] = by_column
    split[..., dim + high + wide :] = 0
    return query_NTD


def _key(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout) -> Tensor:
    """Return keys with a one at their own row and their own column."""
    key_NTD = _value(part_BHWC, bias_C, layout, layout.extended)
    dim, (high, wide), split = layout.dim, layout.span, layout.split(key_NTD)
    split[..., dim : dim + high] = torch.eye(high, dtype=key_NTD.dtype, device=key_NTD.device)[:, None]
    split[..., dim + high : dim + high + wide] = torch.eye(wide, dtype=key_NTD.dtype, device=key_NTD.device)
    return key_NTD


def _value(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout, extended: int) -> Tensor:
    """Return values by window and head, completed with zeros to `extended` dimensions."""
    value_NTD = _room(part_BHWC, layout, extended)
    split = layout.split(value_NTD)
    split[..., : layout.dim] = layout.cut(_pad(part_BHWC, bias_C, layout))
    split[..., layout.dim :] = 0
    return value_NTD


def _operands(
    qkv_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, layout: _Layout, value_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    (query, key, value), biases = qkv_BHWC.chunk(3, dim=3), bias_C.chunk(3)
    return (
        _query(query, biases[0], table_PD, layout),
        _key(key, biases[1], layout),
        _value(value, biases[2], layout, value_dim),
    )


class _Attend(torch.autograd.Function):
    """Attention within windows, from the projected map to the gathered one."""

    @staticmethod
    def forward(ctx: Any, qkv_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, layout: _Layout) -> Tensor:
        ctx.save_for_backward(qkv_BHWC, bias_C, table_PD)
        ctx.layout = layout
        return layout.join(_fused(*_operands(qkv_BHWC, bias_C, table_PD, layout, layout.extended), layout))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHWC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        qkv_BHWC, bias_C, table_PD = ctx.saved_tensors
        layout: _Layout = ctx.layout
        blockwise = _blockwise_pays(qkv_BHWC)
        gradients = _blockwise_gradients if blockwise else _fused_gradients
        value_dim = layout.dim if blockwise else layout.extended
        operands = _operands(qkv_BHWC, bias_C, table_PD, layout, value_dim)
        nothing = grad_BHWC.new_zeros(grad_BHWC.shape[3])
        query, key, value = gradients(*operands, _value(grad_BHWC, nothing, layout, value_dim), layout)
        grad_query, grad_table = _through_products(query, operands[0], table_PD, layout)
        grad_qkv, grad_bias = _fold((grad_query, key, value), qkv_BHWC, layout)
        return grad_qkv, grad_bias, grad_table, None


def _fused(query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor, layout: _Layout) -> Tensor:
    four = (tensor.unflatten(0, (-1, layout.heads)) for tensor in (query_NTD, key_NTD, value_NTD))
    return functional.scaled_dot_product_attention(*four, scale=1.0).flatten(0, 1)


def _fused_gradients(
    query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor, grad_NTD: Tensor, layout: _Layout
) -> tuple[Tensor, ...]:
    """Run the fused kernel again, this time with its own backward pass."""
    operands = [tensor.requires_grad_() for tensor in (query_NTD, key_NTD, value_NTD)]
    with torch.enable_grad():
        out_NTD = _fused(*operands, layout)
    return torch.autograd.grad(out_NTD, operands, grad_NTD)


def _blockwise_pays(qkv_BHWC: Tensor) -> bool:
    """Tell whether the gradients come faster blockwise: on a processor, where the kernel's backward is slow."""
    return qkv_BHWC.device.type == "cpu" and qkv_BHWC.dtype in (torch.float32, torch.float64)


def _blockwise_gradients(
    query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor, grad_NTD: Tensor, layout: _Layout
) -> tuple[Tensor, ...]:
    """Make the scores again, a block at a time that stays in the processor's cache."""
    query = torch.empty_like(query_NTD)
    key, value = torch.zeros_like(value_NTD), torch.zeros_like(value_NTD)
    for heads, rows in _blocks(*query_NTD.shape[:2]):
        weight = torch.bmm(query_NTD[heads, rows], key_NTD[heads].mT).softmax(dim=-1)
        value[heads].baddbmm_(weight.mT, grad_NTD[heads, rows])
        grad_weight = torch.bmm(grad_NTD[heads, rows], value_NTD[heads].mT)
        score = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
        key[heads].baddbmm_(score.mT, query_NTD[heads, rows, : layout.dim])
        query[heads, rows] = torch.bmm(score, key_NTD[heads])
    return query, key, value


def _blocks(heads: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Cut a batch of heads into blocks of heads and query rows whose scores fit into the cache."""
    many, rows = max(1, _CACHED // tokens**2), min(tokens, max(1, _CACHED // tokens))
    for head in range(0, heads, many):
        for row in range(0, tokens, rows):
            yield slice(head, head + many), slice(row, row + rows)


def _through_products(grad_NTD: Tensor, query_NTD: Tensor, table_PD: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Return the gradients of the queries and of the table from that of the extended queries."""
    dim, (high, wide) = layout.dim, layout.span
    products = grad_NTD.new_zeros(*grad_NTD.shape[:2], table_PD.shape[0])
    by_row, by_column = layout.rows(layout.split(products))
    split = layout.split(grad_NTD)
    by_row.copy_(split[..., dim : dim + high])
    by_column.copy_(split[..., dim + high : dim + high + wide])
    flat, (grad, query) = (
        products.flatten(0, 1),
        (tensor.view(-1, layout.extended)[:, :dim] for tensor in (grad_NTD, query_NTD)),
    )
    grad_query = torch.addmm(grad, flat, table_PD, beta=dim**-0.5)
    return grad_query.view(*grad_NTD.shape[:2], dim), (flat.T @ query).mul_(dim**0.5)


def _fold(parts_NTD: tuple[Tensor, ...], qkv_BHWC: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Return the gradients by window and head as those of the map and, from the padding, of the bias."""
    padded_BHWC = qkv_BHWC.new_empty(qkv_BHWC.shape[0], *layout.padded, qkv_BHWC.shape[3])
    for room, part_NTD in zip(padded_BHWC.chunk(3, dim=3), parts_NTD, strict=True):
        layout.cut(room).copy_(layout.split(part_NTD)[..., : layout.dim])
    high, wide = layout.grid
    below, beside = padded_BHWC[:, high:], padded_BHWC[:, :high, wide:]
    return padded_BHWC[:, :high, :wide].contiguous(), below.sum(dim=(0, 1, 2)) + beside.sum(dim=(0, 1, 2))
