from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.sam.automatic.shared_keys import Keys, Level
from quatrain.sam.official import TwoWayTransformer


def _world(seed, heads, grid, points, tokens=3, channels=8):
    """A layer of the stock transformer in double precision, an image, positions and tokens."""
    torch.manual_seed(seed)
    layer = TwoWayTransformer(1, channels, heads, 16).layers[0].double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    image, position = torch.randn(2, grid, channels).double()
    return layer, image, position, torch.randn(points, tokens, channels).double()


def _split(x, heads):
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _advanced(layer, level, keys, position, token):
    """Let the image attend to the tokens, on the factored keys."""
    attention = layer.cross_attn_image_to_token
    query = level.project(attention.q_proj.weight, attention.q_proj.bias, attention.num_heads, position)
    key, value = (_split(part(token), attention.num_heads) for part in (attention.k_proj, attention.v_proj))
    weights = query.scores(key / key.shape[-1] ** 0.5, keys).softmax(dim=2)
    spread, following = level.advance(attention, layer.norm4)
    return following, keys.absorb(weights, value, spread)


def _stock_advanced(layer, image, position, token):
    attention = layer.cross_attn_image_to_token
    return layer.norm4(image + attention(q=image + position, k=token, v=token))


worlds = given(
    seed=st.integers(0, 999), heads=st.sampled_from([1, 2, 4]), grid=st.integers(1, 9), points=st.integers(1, 4)
)


@worlds
def test_the_factored_keys_are_those_of_the_stock_layers(seed, heads, grid, points):
    layer, image, position, token = _world(seed, heads, grid, points)
    level, keys = Level(image_NC=image, fixed_C=torch.zeros(8).double()), Keys()
    stock = image.expand(points, -1, -1)
    eye = torch.eye(8).double()
    for _ in range(3):
        stock = _stock_advanced(layer, stock, position, token)
        level, keys = _advanced(layer, level, keys, position, token)

        rows = level.project(eye, torch.zeros(8).double(), heads=1).rows(keys, slice(0, grid))

        torch.testing.assert_close(rows, stock, rtol=1e-6, atol=1e-6)


@worlds
def test_tokens_gather_from_factored_keys_what_the_stock_attention_gives_them(seed, heads, grid, points):
    layer, image, position, token = _world(seed, heads, grid, points)
    level, keys = Level(image_NC=image, fixed_C=torch.zeros(8).double()), Keys()
    level, keys = _advanced(layer, level, keys, position, token)
    stock = _stock_advanced(layer, image.expand(points, -1, -1), position, token)
    attention = layer.cross_attn_token_to_image
    key = level.project(attention.k_proj.weight, attention.k_proj.bias, heads, position)
    value = level.project(attention.v_proj.weight, attention.v_proj.bias, heads)
    query = _split(attention.q_proj(token), heads)

    gathered = value.gather(key.scores(query / query.shape[-1] ** 0.5, keys).softmax(dim=3), keys)

    ours = attention.out_proj(gathered.transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours, attention(q=token, k=stock + position, v=stock), rtol=1e-6, atol=1e-6)


def test_a_part_of_the_points_is_a_part_of_the_keys_and_parts_join_again():
    layer, image, position, token = _world(0, 2, 5, 4)
    level = Level(image_NC=image, fixed_C=torch.zeros(8).double())
    _, keys = _advanced(layer, level, Keys(), position, token)

    joined = Keys().followed([keys.of(slice(0, 1)), keys.of(slice(1, 4))])

    torch.testing.assert_close(joined.scale_QN, keys.scale_QN)
    torch.testing.assert_close(joined.shares_QSN, keys.shares_QSN)
    assert keys.of(torch.tensor([2])).values_QHTE[0].shape[0] == 1
