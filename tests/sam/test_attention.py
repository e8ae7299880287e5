from __future__ import annotations

import pytest
import torch

from quatrain import compat

compat.torchvision_ops()

from segment_anything.modeling.image_encoder import Block  # noqa: E402 - after the stand-in

SHAPES = {  # heads, head dimensions, window, grid, and the grid the tables were made for
    "vit_mini window": (3, 32, 8, 16, 16),
    "vit_mini global": (3, 32, 0, 16, 16),
    "vit_b window, padded": (12, 64, 14, 16, 64),
    "vit_b global": (12, 64, 0, 16, 16),
    "global, interpolated": (2, 16, 0, 12, 7),
    "window, one patch over": (2, 16, 5, 6, 6),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def case(request):
    heads, dim, window, grid, made_for = request.param
    torch.manual_seed(0)
    block = Block(heads * dim, heads, use_rel_pos=True, window_size=window, input_size=(made_for, made_for))
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return block, torch.randn(2, grid, grid, heads * dim)


def _ours(block, x):
    from quatrain.sam.attention import attend

    return x + block.attn.proj(attend(block.attn.qkv(block.norm1(x)), block.attn, block.window_size))


def _stock(block, x):
    block.mlp = torch.nn.Identity()
    block.norm2 = torch.nn.Module()
    block.norm2.forward = torch.zeros_like
    return block(x)


def _gradients(forward, block, x):
    x = x.clone().requires_grad_()
    used = [p for name, p in block.named_parameters() if name.startswith(("norm1", "attn"))]
    out = forward(block, x)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out) / out.numel() ** 0.5
    return torch.autograd.grad((out * weights).sum(), [x, *used])


def test_it_equals_the_stock_attention(case):
    block, x = case

    torch.testing.assert_close(_ours(block, x), _stock(block, x), rtol=1e-5, atol=1e-5)


def test_its_gradients_equal_those_of_the_stock_attention(case):
    block, x = case[0].double(), case[1].double()  # some gradients are zero but for rounding

    ours, stock = _gradients(_ours, block, x), _gradients(_stock, block, x)

    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
