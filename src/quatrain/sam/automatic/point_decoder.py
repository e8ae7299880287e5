"""SAM's mask decoder for many single points on one image: stock outputs, several times as fast.

`shared_keys` describes what all points share of the image side. Predicted IoU depends on the tokens alone, so masks
are computed only for selected points.

Q points, T tokens, C channels, N = h w positions of the image embedding, M masks per point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quatrain.sam.automatic.shared_keys import Keys, Level, Projection, Spread
from quatrain.sam.official import Sam, TwoWayTransformer

_CACHED = 2**18
"""Attention scores computed at a time; they fit into the processor's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """The part of one transformer layer that all points share."""

    key: Projection
    value: Projection
    query: Projection
    spread: Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The decoder's outputs for Q points, before any mask is computed."""

    iou_QM: Tensor
    """Predicted IoU of the three candidate masks."""
    filters_QMC: Tensor
    """Mask filters; their product with the upscaled image is the masks' logits."""
    keys: Keys

    def of(self, points: Tensor) -> Answer:
        """Return the outputs of the points with these indices."""
        return Answer(iou_QM=self.iou_QM[points], filters_QMC=self.filters_QMC[points], keys=self.keys.of(points))


class PointDecoder:
    """The mask decoder of `model`, prepared for one image; each prompt is one foreground point.

    `embedding_1Chw` is the image encoder's output, float32. The model is not changed.
    """

    def __init__(self, model: Sam, embedding_1Chw: Tensor) -> None:
        decoder, prompts = model.mask_decoder, model.prompt_encoder
        if not isinstance(decoder.transformer, TwoWayTransformer):
            raise TypeError(f"the mask decoder's transformer is a {type(decoder.transformer).__name__}, not SAM's own")
        self._decoder: Any = decoder
        self._prompts: Any = prompts
        self._grid = (int(embedding_1Chw.shape[2]), int(embedding_1Chw.shape[3]))
        image_NC = (embedding_1Chw[0].flatten(1) + prompts.no_mask_embed.weight.T).T.contiguous()
        position_NC = prompts.get_dense_pe()[0].flatten(1).T.contiguous()
        level = Level(image_NC=image_NC, fixed_C=torch.zeros_like(image_NC[0]))
        self._layers = []
        for layer in decoder.transformer.layers:
            down, up = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            spread, following = level.advance(up, layer.norm4)
            key, value = _key_and_value(level, down, position_NC)
            query = level.project(up.q_proj.weight, up.q_proj.bias, up.num_heads, position_NC)
            self._layers.append(_Layer(key=key, value=value, query=query, spread=spread))
            level = following
        self._last = _key_and_value(level, decoder.transformer.final_attn_token_to_image, position_NC)
        self._fine = int(decoder.output_upscaling[3].out_channels)
        self._upscaled = _first_upscaling(level, decoder.output_upscaling[0])

    def read(self, point_Q2: Tensor) -> Answer:
        """Return predicted IoU and mask filters for points x, y in pixels of the network's input."""
        tokens_QTC = self._tokens(point_Q2)
        keys, states_QTC = Keys(), tokens_QTC
        for layer, shared in zip(self._decoder.transformer.layers, self._layers, strict=True):
            states_QTC, keys = self._pass(layer, shared, states_QTC, tokens_QTC, keys)
        transformer = self._decoder.transformer
        last = transformer.final_attn_token_to_image
        read_QTC = self._look(last, *self._last, states_QTC + tokens_QTC, keys)
        return self._answer(transformer.norm_final_attn(states_QTC + read_QTC), keys)

    def draw(self, answer: Answer, points: Tensor) -> Tensor:
        """Return the logits of the three candidate masks of some points (their indices), (points, 3, 4 h, 4 w)."""
        logits_QKM = answer.iou_QM.new_empty(len(points), 16 * self._size, 3)
        positions = max(1, _CACHED // (16 * self._fine))
        for part in torch.arange(len(points)).split(max(1, positions // self._size)):
            some = answer.of(points[part])
            for first in range(0, self._size, positions):
                where = slice(first, min(first + positions, self._size))
                logits_QKM[part, 16 * where.start : 16 * where.stop] = self._draw(some, where)
        return _unfold(logits_QKM, self._grid)

    @property
    def _size(self) -> int:
        return self._grid[0] * self._grid[1]

    def _tokens(self, point_Q2: Tensor) -> Tensor:
        """Return the prompts' tokens: predicted IoU, four masks, the point, and the padding point."""
        labels_Q1 = torch.ones(len(point_Q2), 1, dtype=torch.int, device=point_Q2.device)
        sparse_Q2C, _ = self._prompts(points=(point_Q2[:, None], labels_Q1), boxes=None, masks=None)
        own = torch.cat([self._decoder.iou_token.weight, self._decoder.mask_tokens.weight])
        return torch.cat([own.expand(len(point_Q2), -1, -1), sparse_Q2C], dim=1)

    def _pass(
        self, layer: Any, shared: _Layer, states_QTC: Tensor, tokens_QTC: Tensor, keys: Keys
    ) -> tuple[Tensor, Keys]:
        """Run one layer of the transformer (segment_anything's TwoWayAttentionBlock)."""
        if layer.skip_first_layer_pe:
            states_QTC = layer.self_attn(q=states_QTC, k=states_QTC, v=states_QTC)
        else:
            own = states_QTC + tokens_QTC
            states_QTC = states_QTC + layer.self_attn(q=own, k=own, v=states_QTC)
        states_QTC = layer.norm1(states_QTC)
        look = self._look(layer.cross_attn_token_to_image, shared.key, shared.value, states_QTC + tokens_QTC, keys)
        states_QTC = layer.norm2(states_QTC + look)
        states_QTC = layer.norm3(states_QTC + layer.mlp(states_QTC))
        return states_QTC, self._answered(layer, shared, states_QTC, tokens_QTC, keys)

    def _look(self, attention: Any, key: Projection, value: Projection, query_QTC: Tensor, keys: Keys) -> Tensor:
        """Return the attention of the tokens to the image, (Q, T, C)."""
        query_QHTD = _heads(attention.q_proj(query_QTC), attention.num_heads)
        query_QHTD = query_QHTD / query_QHTD.shape[-1] ** 0.5
        looks = []
        for part in self._parts(query_QHTD):
            some = keys.of(part)
            looks.append(value.gather(key.scores(query_QHTD[part], some).softmax(dim=3), some))
        out_QTC: Tensor = attention.out_proj(torch.cat(looks).transpose(1, 2).flatten(2))
        return out_QTC

    def _answered(self, layer: Any, shared: _Layer, states_QTC: Tensor, tokens_QTC: Tensor, keys: Keys) -> Keys:
        """Return the image keys after the image attended to the tokens."""
        attention = layer.cross_attn_image_to_token
        key_QHTD = _heads(attention.k_proj(states_QTC + tokens_QTC), attention.num_heads)
        key_QHTD = key_QHTD / key_QHTD.shape[-1] ** 0.5
        value_QHTD = _heads(attention.v_proj(states_QTC), attention.num_heads)
        news = []
        for part in self._parts(key_QHTD):
            some = keys.of(part)
            weights = shared.query.scores(key_QHTD[part], some).softmax(dim=2)
            news.append(some.absorb(weights, value_QHTD[part], shared.spread))
        return keys.followed(news)

    def _parts(self, token_QHTD: Tensor) -> Iterator[slice]:
        """Yield slices of the points whose scores fit into the cache."""
        many = max(1, _CACHED // (self._size * token_QHTD.shape[1] * token_QHTD.shape[2]))
        for first in range(0, len(token_QHTD), many):
            yield slice(first, first + many)

    def _answer(self, states_QTC: Tensor, keys: Keys) -> Answer:
        filters = [mlp(states_QTC[:, 1 + i]) for i, mlp in enumerate(self._decoder.output_hypernetworks_mlps)]
        return Answer(
            iou_QM=self._decoder.iou_prediction_head(states_QTC[:, 0])[:, 1:],
            filters_QMC=torch.stack(filters[1:], dim=1),
            keys=keys,
        )

    def _draw(self, answer: Answer, positions: slice) -> Tensor:
        """Return the logits: two upscalings by 2 as segment_anything's transposed convolutions, then the filters."""
        _, norm, act, last, last_act = self._decoder.output_upscaling
        first = self._upscaled.rows(answer.keys, positions).unflatten(2, (4, -1))
        normed = torch.nn.functional.layer_norm(first, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        weight, bias = _as_linear(last)
        second = torch.nn.functional.linear(act(normed), weight, bias).unflatten(3, (4, -1))
        logits_QKM: Tensor = last_act(second).flatten(1, 3) @ answer.filters_QMC.mT
        return logits_QKM


def _key_and_value(level: Level, attention: Any, position_NC: Tensor) -> tuple[Projection, Projection]:
    """Return the key and value projections of a token-to-image attention that all points share."""
    heads, key, value = attention.num_heads, attention.k_proj, attention.v_proj
    return (
        level.project(key.weight, key.bias, heads, position_NC),
        level.project(value.weight, value.bias, heads),
    )


def _first_upscaling(level: Level, convolution: Any) -> Projection:
    weight, bias = _as_linear(convolution)
    return level.project(weight, bias, heads=1)


def _as_linear(convolution: Any) -> tuple[Tensor, Tensor]:
    """Return a 2 x 2 transposed convolution with stride 2 as weight (4 out, in) and bias (4 out)."""
    return convolution.weight.permute(2, 3, 1, 0).flatten(0, 2), convolution.bias.repeat(4)


def _heads(x_QTC: Tensor, heads: int) -> Tensor:
    apart: Tensor = x_QTC.unflatten(2, (heads, -1))
    return apart.transpose(1, 2)


def _unfold(logits_QKM: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the sixteen pixels of every position in image layout, (Q, M, 4 h, 4 w)."""
    pixels: Tensor = logits_QKM.unflatten(1, (*grid, 2, 2, 2, 2))  # h, w; row, column of the first; of the second
    return pixels.permute(0, 7, 1, 3, 5, 2, 4, 6).flatten(5, 7).flatten(2, 4)
