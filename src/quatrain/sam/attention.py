"""SAM's windowed and global attention on fused kernels, without a score-sized relative-position bias.

SAM adds to the score of query (h, w) and key (h', w') the two dot products q . R_h[h - h'] and q . R_w[w - w'].
Both are linear in q, so they fit into extra head dimensions: a query carries its products with every row and every
column, a key carries a one at its own row and its own column, and one dot product gives the whole score.

B images, H W patches, C channels; within windows and heads N, tokens T, head dimensions D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling.image_encoder import Attention

_ALIGN = 16
"""Extended head dimensions are padded to a multiple of this: the fused kernels are fastest there."""
_CACHED = 2**18
"""Scores in a block of the processor's backward pass."""


def attend(qkv_BHWC: Tensor, attention: Attention, window: int) -> Tensor:
    """Return windowed or global attention before the output projection, (B, H, W, C).

    `qkv_BHWC` holds queries, keys and values side by side, (B, H, W, 3 C); `attention` is a segment_anything
    `Attention` (its head count, qkv bias and relative positions are used); `window` is the side of a window in
    patches, 0 for global attention. Windows at the border are completed as segment_anything does, by tokens whose
    input is zero: their keys and values are the bias and take part in the softmax. As queries they are left out.

    Only `qkv_BHWC` is kept for the backward pass; everything else is computed again.
    """
    grid, heads, dtype = qkv_BHWC.shape[1:3], int(attention.num_heads), qkv_BHWC.dtype
    span = (window, window) if window else (grid[0], grid[1])
    tables = (_fit(attention.rel_pos_h, 2 * span[0] - 1), _fit(attention.rel_pos_w, 2 * span[1] - 1))
    table_PD = torch.cat([table.flip(0) for table in tables])
    shape = _Shape(span=span, heads=heads, dim=table_PD.shape[1])
    out_BHWC: Tensor = _Attend.apply(qkv_BHWC, attention.qkv.bias.to(dtype), table_PD.to(dtype), shape)  # type: ignore[no-untyped-call]
    return out_BHWC


def _fit(table_PD: Tensor, entries: int) -> Tensor:
    """Interpolate a relative-position table linearly to `entries` rows, as segment_anything does."""
    if table_PD.shape[0] == entries:
        return table_PD
    return functional.interpolate(table_PD.T[None], size=entries, mode="linear")[0].T


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """The windows over which tokens attend, and their heads."""

    span: tuple[int, int]
    """Rows and columns of a window."""
    heads: int
    dim: int

    @property
    def extended(self) -> int:
        """Head dimensions with those for rows and columns, padded."""
        return math.ceil((self.dim + sum(self.span)) / _ALIGN) * _ALIGN

    @property
    def parts(self) -> tuple[slice, slice, slice]:
        """Where extended head dimensions hold the token itself, the rows and the columns."""
        row, column = self.dim, self.dim + self.span[0]
        return slice(row), slice(row, column), slice(column, column + self.span[1])

    def regions(self, grid: Sequence[int]) -> Iterator[tuple[slice, slice]]:
        """Cut a map into up to four parts of which each has windows of one size only."""
        for rows in _cuts(grid[0], self.span[0]):
            for columns in _cuts(grid[1], self.span[1]):
                yield rows, columns

    def cut(self, map_BHWC: Tensor, side: tuple[int, int]) -> Tensor:
        """View a map as windows of `side` by head, (B, windows, windows, heads, rows, columns, dim)."""
        heads = map_BHWC.unflatten(3, (self.heads, self.dim))
        windows: Tensor = heads.unflatten(2, (-1, side[1])).unflatten(1, (-1, side[0])).permute(0, 1, 3, 5, 2, 4, 6)
        return windows

    def flat(self, windows: Tensor, extended: int) -> Tensor:
        """Return an empty tensor for the windows of `cut` as matrices, (windows and heads, tokens, extended)."""
        return windows.new_empty(math.prod(windows.shape[:4]), math.prod(windows.shape[4:6]), extended)

    def place(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """View products with the table as what each query adds to each row and to each column of its window.

        `products` is (..., rows, columns, table). The table is reversed, so the query in row h meets the key in
        row h' at entry rows - 1 - h + h': one step back for each row.
        """
        high, wide = self.span
        *lead, down, right, one = products.stride()
        first = products.storage_offset() + high - 1
        by_row = products.as_strided((*products.shape[:-1], high), (*lead, down - one, right, one), first)
        first += high + wide - 1
        by_column = products.as_strided((*products.shape[:-1], wide), (*lead, down, right - one, one), first)
        return by_row, by_column


def _cuts(length: int, side: int) -> list[slice]:
    """Return the part of a length that whole sides fill, and the rest."""
    whole = length - length % side
    return [part for part in (slice(0, whole), slice(whole, length)) if part.stop > part.start]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Operands:
    """Queries, keys and values of a region, by window and head, each (N, T, D)."""

    query: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    def of(cls, region_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, shape: _Shape, value_dim: int) -> _Operands:
        """Extend queries and keys, and complete values with zeros to `value_dim` dimensions."""
        (query, key, value), (_, key_bias, value_bias) = region_BHWC.chunk(3, dim=3), bias_C.chunk(3)
        return cls(
            query=_query(shape.cut(query, _side(region_BHWC, shape)), table_PD, shape),
            key=_key(shape.cut(_pad(key, key_bias, shape), shape.span), shape),
            value=_value(shape.cut(_pad(value, value_bias, shape), shape.span), shape, value_dim),
        )


def _side(region_BHWC: Tensor, shape: _Shape) -> tuple[int, int]:
    """Return the rows and columns of real tokens in the windows of a region."""
    return min(shape.span[0], region_BHWC.shape[1]), min(shape.span[1], region_BHWC.shape[2])


def _pad(region_BHWC: Tensor, bias_C: Tensor, shape: _Shape) -> Tensor:
    """Complete the windows of a region with tokens that are the bias."""
    rows, columns = (
        math.ceil(have / side) * side for have, side in zip(region_BHWC.shape[1:3], shape.span, strict=True)
    )
    if region_BHWC.shape[1:3] == (rows, columns):
        return region_BHWC
    padded = bias_C.expand(region_BHWC.shape[0], rows, columns, -1).clone()
    padded[:, : region_BHWC.shape[1], : region_BHWC.shape[2]] = region_BHWC
    return padded


def _query(windows: Tensor, table_PD: Tensor, shape: _Shape) -> Tensor:
    """Return scaled queries with their products with every row and every column."""
    query_NTD = shape.flat(windows, shape.extended)
    split, (own, row, column) = query_NTD.view(*windows.shape[:-1], -1), shape.parts
    torch.mul(windows, shape.dim**-0.5, out=split[..., own])
    products = query_NTD.view(-1, shape.extended)[:, own] @ (table_PD.T * shape.dim**0.5)
    split[..., row], split[..., column] = shape.place(products.view(*windows.shape[:-1], -1))
    split[..., column.stop :] = 0
    return query_NTD


def _key(windows: Tensor, shape: _Shape) -> Tensor:
    """Return keys with a one at their own row and their own column."""
    key_NTD = _value(windows, shape, shape.extended)
    split, (_, row, column) = key_NTD.view(*windows.shape[:-1], -1), shape.parts
    split[..., row] = torch.eye(shape.span[0], dtype=windows.dtype, device=windows.device)[:, None]
    split[..., column] = torch.eye(shape.span[1], dtype=windows.dtype, device=windows.device)
    return key_NTD


def _value(windows: Tensor, shape: _Shape, dim: int) -> Tensor:
    """Return values completed with zeros to `dim` dimensions."""
    value_NTD = shape.flat(windows, dim)
    split = value_NTD.view(*windows.shape[:-1], -1)
    split[..., : shape.dim] = windows
    split[..., shape.dim :] = 0
    return value_NTD


class _Attend(torch.autograd.Function):
    """Attention within windows, from the projected map to the gathered one."""

    @staticmethod
    def forward(ctx: Any, qkv_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, shape: _Shape) -> Tensor:
        ctx.save_for_backward(qkv_BHWC, bias_C, table_PD)
        ctx.shape = shape
        out_BHWC = qkv_BHWC.new_empty(*qkv_BHWC.shape[:3], shape.heads * shape.dim)
        for rows, columns in shape.regions(qkv_BHWC.shape[1:3]):
            region = qkv_BHWC[:, rows, columns]
            operands = _Operands.of(region, bias_C, table_PD, shape, shape.extended)
            windows = shape.cut(out_BHWC[:, rows, columns], _side(region, shape))
            windows.copy_(_fused(operands, shape).view(*windows.shape[:-1], -1)[..., : shape.dim])
        return out_BHWC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHWC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        qkv_BHWC, bias_C, table_PD = ctx.saved_tensors
        grad_qkv, grad_bias, grad_table = (
            torch.empty_like(qkv_BHWC),
            torch.zeros_like(bias_C),
            torch.zeros_like(table_PD),
        )
        for region in ctx.shape.regions(qkv_BHWC.shape[1:3]):
            rows, columns = region
            operands = qkv_BHWC[:, rows, columns], bias_C, table_PD
            bias, table = _backward(grad_BHWC[:, rows, columns], *operands, grad_qkv[:, rows, columns], ctx.shape)
            grad_bias += bias
            grad_table += table
        return grad_qkv, grad_bias, grad_table, None


def _backward(
    grad_BHWC: Tensor, region_BHWC: Tensor, bias_C: Tensor, table_PD: Tensor, target_BHWC: Tensor, shape: _Shape
) -> tuple[Tensor, Tensor]:
    """Write a region's gradient into `target_BHWC`; return the gradients of bias (by padding) and table."""
    blockwise, side = _blockwise_pays(region_BHWC), _side(region_BHWC, shape)
    value_dim = shape.dim if blockwise else shape.extended
    operands = _Operands.of(region_BHWC, bias_C, table_PD, shape, value_dim)
    grad_NTD = _value(shape.cut(grad_BHWC, side), shape, value_dim)
    extended, key, value = (_blockwise_gradients if blockwise else _fused_gradients)(operands, grad_NTD, shape)
    targets_BHWC = target_BHWC.chunk(3, dim=3)
    grad_table = _through_products(extended, operands.query, table_PD, shape.cut(targets_BHWC[0], side), shape)
    outside = [_fold(part, target, shape) for part, target in zip((key, value), targets_BHWC[1:], strict=True)]
    return torch.cat([torch.zeros_like(outside[0]), *outside]), grad_table


def _fused(operands: _Operands, shape: _Shape) -> Tensor:
    three = (operands.query, operands.key, operands.value)
    query, key, value = (tensor.unflatten(0, (-1, shape.heads)) for tensor in three)
    return functional.scaled_dot_product_attention(query, key, value, scale=1.0).flatten(0, 1)


def _fused_gradients(operands: _Operands, grad_NTD: Tensor, shape: _Shape) -> tuple[Tensor, ...]:
    """Run the fused kernel again, this time with its own backward pass."""
    three = [tensor.requires_grad_() for tensor in (operands.query, operands.key, operands.value)]
    with torch.enable_grad():
        out_NTD = _fused(operands, shape)
    return torch.autograd.grad(out_NTD, three, grad_NTD)


def _blockwise_pays(qkv_BHWC: Tensor) -> bool:
    """Return whether blockwise gradients are faster: on the CPU, where the kernel's backward pass is slow."""
    return qkv_BHWC.device.type == "cpu" and qkv_BHWC.dtype in (torch.float32, torch.float64)


def _blockwise_gradients(operands: _Operands, grad_NTD: Tensor, shape: _Shape) -> tuple[Tensor, ...]:
    """Compute the scores again, one cache-sized block at a time."""
    query_NTD, key_NTD, value_NTD = operands.query, operands.key, operands.value
    query, key, value = torch.empty_like(query_NTD), torch.zeros_like(value_NTD), torch.zeros_like(value_NTD)
    for heads, rows in _blocks(query_NTD.shape[0], query_NTD.shape[1], key_NTD.shape[1]):
        weight = torch.bmm(query_NTD[heads, rows], key_NTD[heads].mT).softmax(dim=-1)
        value[heads].baddbmm_(weight.mT, grad_NTD[heads, rows])
        grad_weight = torch.bmm(grad_NTD[heads, rows], value_NTD[heads].mT)
        score = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
        key[heads].baddbmm_(score.mT, query_NTD[heads, rows, : shape.dim])
        query[heads, rows] = torch.bmm(score, key_NTD[heads])
    return query, key, value


def _blocks(heads: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Cut a batch of heads into blocks of heads and query rows whose scores fit into the cache."""
    many, rows = max(1, _CACHED // (queries * keys)), min(queries, max(1, _CACHED // keys))
    for head in range(0, heads, many):
        for row in range(0, queries, rows):
            yield slice(head, head + many), slice(row, row + rows)


def _through_products(grad_NTD: Tensor, query_NTD: Tensor, table_PD: Tensor, target: Tensor, shape: _Shape) -> Tensor:
    """Write the queries' gradient into `target`; return the gradient of the table."""
    own, row, column = shape.parts
    split = grad_NTD.view(*target.shape[:-1], -1)
    products = grad_NTD.new_zeros(*target.shape[:-1], table_PD.shape[0])
    by_row, by_column = shape.place(products)
    by_row.copy_(split[..., row])
    by_column.copy_(split[..., column])
    flat, width = products.view(-1, table_PD.shape[0]), grad_NTD.shape[2]
    grad = torch.addmm(grad_NTD.view(-1, width)[:, own], flat, table_PD, beta=shape.dim**-0.5)
    target.copy_(grad.view_as(target))
    return (flat.T @ query_NTD.view(-1, width)[:, own]).mul_(shape.dim**0.5)


def _fold(part_NTD: Tensor, target_BHWC: Tensor, shape: _Shape) -> Tensor:
    """Write a gradient by window and head into the map; return its sum over the padding."""
    high, wide = target_BHWC.shape[1:3]
    rows, columns = (math.ceil(have / side) * side for have, side in zip((high, wide), shape.span, strict=True))
    whole = (rows, columns) == (high, wide)
    padded_BHWC = (
        target_BHWC if whole else target_BHWC.new_empty(target_BHWC.shape[0], rows, columns, target_BHWC.shape[3])
    )
    windows = shape.cut(padded_BHWC, shape.span)
    windows.copy_(part_NTD.view(*windows.shape[:-1], -1)[..., : shape.dim])
    if not whole:
        target_BHWC.copy_(padded_BHWC[:, :high, :wide])
    return padded_BHWC[:, high:].sum(dim=(0, 1, 2)) + padded_BHWC[:, :high, wide:].sum(dim=(0, 1, 2))
