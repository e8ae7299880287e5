"""SAM's windowed and global attention on fused kernels, without a score-sized relative-position bias.

SAM adds to the score of query (h, w) and key (h', w') the two dot products q . R_h[h - h'] and q . R_w[w - w'].
Both are linear in q, so they fit into extra head dimensions: a query carries its products with every row and every
column, a key carries a one at its own row and its own column, and one scaled dot product gives the whole score.

B images, H W patches, C channels, N heads, T tokens of a window, D extended head dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_ALIGN = 16
"""Extended head dimensions are padded to a multiple of this: the fused kernels are fastest there."""


def attend(qkv_BHWC: Tensor, attention: nn.Module, window: int) -> Tensor:
    """Return what every token gathers from its window, before the output projection, (B, H, W, C).

    `qkv_BHWC` holds queries, keys and values side by side, (B, H, W, 3 C); `attention` is a segment_anything
    `Attention` (its head count, qkv bias and relative positions are used); `window` is the side of a window in
    patches, 0 for global attention. Windows at the border are completed as segment_anything does, by tokens whose
    input is zero: their keys and values are the bias and take part in the softmax.
    """
    height, width = qkv_BHWC.shape[1:3]
    span = (window, window) if window else (height, width)
    layout = _Layout(
        grid=(height, width),
        span=span,
        heads=attention.num_heads,
        head_dim=qkv_BHWC.shape[3] // (3 * attention.num_heads),
    )
    table_PC = _relative_table(attention, layout).to(qkv_BHWC.dtype)
    bias = attention.qkv.bias
    bias_C = qkv_BHWC.new_zeros(qkv_BHWC.shape[3]) if bias is None else bias.to(qkv_BHWC.dtype)
    extended = cast("tuple[Tensor, Tensor, Tensor]", _Extend.apply(qkv_BHWC, bias_C, table_PC, layout))
    rebuild = _Rebuild(qkv_BHWC.detach(), bias_C.detach(), table_PC.detach(), layout, extended)
    with torch.autograd.graph.saved_tensors_hooks(rebuild.pack, rebuild.unpack):
        gathered_BNTD = functional.scaled_dot_product_attention(*extended, scale=layout.head_dim**-0.5)
    out_BHWC = cast(Tensor, _Restrict.apply(gathered_BNTD, layout))
    rebuild.close(gathered_BNTD, out_BHWC.detach())
    return out_BHWC


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """How the grid of patches is cut into windows, and what the head dimensions hold."""

    grid: tuple[int, int]
    span: tuple[int, int]
    heads: int
    head_dim: int

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
        return math.ceil((self.head_dim + sum(self.span)) / _ALIGN) * _ALIGN

    def cut(self, map_BHWC: Tensor) -> Tensor:
        """View a padded map as windows by head, (B, windows, windows, heads, rows, columns, head_dim)."""
        (rows, columns), (high, wide) = self.windows, self.span
        seven = (
            map_BHWC.unflatten(3, (self.heads, self.head_dim)).unflatten(2, (columns, wide)).unflatten(1, (rows, high))
        )
        return seven.permute(0, 1, 3, 5, 2, 4, 6)

    def split(self, heads_BNTD: Tensor) -> Tensor:
        """View windows by head, (B * windows, heads, tokens, D), in the seven dimensions that `cut` gives."""
        return heads_BNTD.view(-1, *self.windows, self.heads, *self.span, heads_BNTD.shape[-1])

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


def _relative_table(attention: nn.Module, layout: _Layout) -> Tensor:
    """Return both relative-position tables, reversed, one below the other, scaled for use as a query's products."""
    if not attention.use_rel_pos:
        entries = 2 * sum(layout.span) - 2
        return attention.qkv.weight.new_zeros(entries, layout.head_dim)
    tables = (attention.rel_pos_h, attention.rel_pos_w)
    fitted = [_fit(cast(Tensor, table), 2 * side - 1) for table, side in zip(tables, layout.span, strict=True)]
    return torch.cat([table.flip(0) for table in fitted]) * layout.head_dim**0.5


def _fit(table_PC: Tensor, entries: int) -> Tensor:
    """Interpolate a relative-position table linearly to `entries` rows, as segment_anything does."""
    if table_PC.shape[0] == entries:
        return table_PC
    return functional.interpolate(table_PC.T[None], size=entries, mode="linear")[0].T


def _pad(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout) -> Tensor:
    """Complete the border windows with tokens that are the bias."""
    if layout.whole:
        return part_BHWC
    padded = bias_C.expand(part_BHWC.shape[0], *layout.padded, -1).clone()
    padded[:, : layout.grid[0], : layout.grid[1]] = part_BHWC
    return padded


def _extend_query(part_BHWC: Tensor, bias_C: Tensor, table_PC: Tensor, layout: _Layout) -> Tensor:
    query = _extend_value(part_BHWC, bias_C, layout)
    dim, high = layout.head_dim, layout.span[0]
    products = query.view(-1, layout.extended)[:, :dim] @ table_PC.T
    by_row, by_column = layout.rows(layout.split(products.view(*query.shape[:3], -1)))
    split = layout.split(query)
    split[..., dim : dim + high] = by_row
    split[..., dim + high : dim + sum(layout.span)] = by_column
    return query


def _extend_key(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout) -> Tensor:
    key = _extend_value(part_BHWC, bias_C, layout)
    dim, (high, wide) = layout.head_dim, layout.span
    split = layout.split(key)
    split[..., dim : dim + high] = torch.eye(high, dtype=key.dtype, device=key.device)[:, None]
    split[..., dim + high : dim + high + wide] = torch.eye(wide, dtype=key.dtype, device=key.device)
    return key


def _extend_value(part_BHWC: Tensor, bias_C: Tensor, layout: _Layout) -> Tensor:
    cut = layout.cut(_pad(part_BHWC, bias_C, layout))
    windows = part_BHWC.shape[0] * math.prod(layout.windows)
    value = part_BHWC.new_empty(windows, layout.heads, math.prod(layout.span), layout.extended)
    split = layout.split(value)
    split[..., : layout.head_dim] = cut
    split[..., layout.head_dim :] = 0
    return value


class _Extend(torch.autograd.Function):
    """From the projected map to extended queries, keys and values of every window and head."""

    @staticmethod
    def forward(
        ctx: Any, qkv_BHWC: Tensor, bias_C: Tensor, table_PC: Tensor, layout: _Layout
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(qkv_BHWC, table_PC)
        ctx.layout = layout
        (query, key, value), biases = qkv_BHWC.chunk(3, dim=3), bias_C.chunk(3)
        return (
            _extend_query(query, biases[0], table_PC, layout),
            _extend_key(key, biases[1], layout),
            _extend_value(value, biases[2], layout),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_BNTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        qkv_BHWC, table_PC = ctx.saved_tensors
        layout: _Layout = ctx.layout
        query, key, value = (grad.contiguous() for grad in grads_BNTD)
        dim, high = layout.head_dim, layout.span[0]
        products = query.new_zeros(*query.shape[:3], table_PC.shape[0])
        by_row, by_column = layout.rows(layout.split(products))
        split = layout.split(query)
        by_row.copy_(split[..., dim : dim + high])
        by_column.copy_(split[..., dim + high : dim + sum(layout.span)])
        flat = products.view(-1, table_PC.shape[0])
        grad_query = torch.addmm(query.view(-1, layout.extended)[:, :dim], flat, table_PC).view(*query.shape[:3], dim)
        # tokens of the padding get no gradient as queries, so what stands there does not matter
        seen = _pad(qkv_BHWC[..., : layout.heads * dim], qkv_BHWC.new_zeros(layout.heads * dim), layout)
        grad_table = flat.T @ layout.cut(seen).reshape(-1, dim)
        padded = qkv_BHWC.new_empty(qkv_BHWC.shape[0], *layout.padded, qkv_BHWC.shape[3])
        for part, grad in zip(padded.chunk(3, dim=3), (grad_query, key, value), strict=True):
            layout.cut(part).copy_(layout.split(grad)[..., :dim])
        grad_qkv = padded[:, : layout.grid[0], : layout.grid[1]].contiguous()
        return grad_qkv, _outside(padded, layout.grid), grad_table, None


def _outside(padded_BHWC: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sum over the tokens of the padding."""
    below = padded_BHWC[:, grid[0] :].sum(dim=(0, 1, 2))
    return below + padded_BHWC[:, : grid[0], grid[1] :].sum(dim=(0, 1, 2))


class _Restrict(torch.autograd.Function):
    """From what windows and heads gathered back to the map: real tokens and real head dimensions only."""

    @staticmethod
    def forward(ctx: Any, gathered_BNTD: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        seven = layout.split(gathered_BNTD)[..., : layout.head_dim]
        map_BHWC = seven.permute(0, 1, 4, 2, 5, 3, 6).reshape(seven.shape[0], *layout.padded, -1)
        return map_BHWC[:, : layout.grid[0], : layout.grid[1]].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHWC: Tensor) -> tuple[Tensor, None]:
        layout: _Layout = ctx.layout
        return _extend_value(grad_BHWC, grad_BHWC.new_zeros(grad_BHWC.shape[3]), layout), None


class _Rebuild:
    """Keep the fused kernel from saving its extended operands: they are rebuilt from the projected map.

    The kernel's output is rebuilt from its real part. The gradient of what was cut away is zero, and the kernel
    uses its output only in products with that gradient.
    """

    def __init__(
        self,
        qkv_BHWC: Tensor,
        bias_C: Tensor,
        table_PC: Tensor,
        layout: _Layout,
        extended: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        (query, key, value), biases = qkv_BHWC.chunk(3, dim=3), bias_C.chunk(3)
        self._recipes: dict[int, Callable[[], Tensor]] = {
            extended[0].data_ptr(): lambda: _extend_query(query, biases[0], table_PC, layout),
            extended[1].data_ptr(): lambda: _extend_key(key, biases[1], layout),
            extended[2].data_ptr(): lambda: _extend_value(value, biases[2], layout),
        }
        self._shape = extended[0].shape
        self._layout = layout
        self._saved: list[_Saved] = []

    def pack(self, tensor: Tensor) -> _Saved:
        """Note a recipe for a known operand, the tensor itself for any other."""
        saved = _Saved(tensor)
        recipe = self._recipes.get(tensor.data_ptr())
        if recipe is not None and tensor.shape == self._shape:
            saved.become(recipe)
        self._saved.append(saved)
        return saved

    @staticmethod
    def unpack(saved: _Saved) -> Tensor:
        """Give a saved tensor back."""
        return saved.tensor()

    def close(self, gathered_BNTD: Tensor, out_BHWC: Tensor) -> None:
        """Replace the kernel's output by its real part, and forget what was seen."""
        layout, zeros_C = self._layout, out_BHWC.new_zeros(out_BHWC.shape[3])
        for saved in self._saved:
            if saved.holds(gathered_BNTD):
                saved.become(lambda: _extend_value(out_BHWC, zeros_C, layout))
        self._saved.clear()
        self._recipes.clear()


class _Saved:
    """A tensor that a kernel saved, or how to make it again."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor: Tensor | None = tensor
        self._recipe: Callable[[], Tensor] | None = None

    def become(self, recipe: Callable[[], Tensor]) -> None:
        self._tensor, self._recipe = None, recipe

    def holds(self, tensor: Tensor) -> bool:
        held = self._tensor
        return held is not None and held.data_ptr() == tensor.data_ptr() and held.shape == tensor.shape

    def tensor(self) -> Tensor:
        return self._recipe() if self._recipe is not None else cast(Tensor, self._tensor)
