from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from quatrain import compat
from quatrain.sam.registry import SHAPES, SamShape
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Subnet

compat.torchvision_ops()

from segment_anything.modeling import ImageEncoderViT  # noqa: E402 - after the stand-in

TINY = SamShape(
    name="tiny",
    image_px=96,
    patch_px=16,
    embed_dim=32,
    depth=4,
    heads=2,
    global_blocks=(2,),
    window=4,
    prompt_dim=16,
    decoder_mlp=32,
    decoder_heads=2,
)


def stock(shape: SamShape) -> ImageEncoderViT:
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=shape.image_px,
        patch_size=shape.patch_px,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_ratio,
        out_chans=shape.prompt_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=shape.window,
        global_attn_indexes=shape.global_blocks,
    )
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return encoder


@pytest.fixture
def encoder():
    return ElasticEncoder(stock(TINY), TINY)


@pytest.fixture
def image():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def sliced(subnet: Subnet) -> ImageEncoderViT:
    """The sub-network as a stock encoder with cut weights."""
    whole = stock(TINY)
    for index, width in enumerate(subnet.widths):
        mlp = whole.blocks[index].mlp
        mlp.lin1.weight, mlp.lin1.bias = nn.Parameter(mlp.lin1.weight[:width]), nn.Parameter(mlp.lin1.bias[:width])
        mlp.lin2.weight = nn.Parameter(mlp.lin2.weight[:, :width])
    whole.blocks = nn.ModuleList(whole.blocks[index] for index in subnet.kept)
    return whole


@pytest.mark.parametrize(
    "shape", [TINY, SHAPES["vit_mini"], dataclasses.replace(SHAPES["vit_b"], image_px=256, depth=3)]
)
def test_the_full_network_equals_the_stock_encoder(shape):
    encoder = stock(shape)
    image = torch.randn(1, 3, shape.image_px, shape.image_px)
    expected = encoder(image)

    torch.testing.assert_close(ElasticEncoder(encoder, shape)(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("key", ["128-128-128-128", "64-0-37-128", "0-1-0-0", "32-64-96-0"])
def test_a_sub_network_equals_a_stock_encoder_with_its_slices(encoder, image, key):
    subnet = Subnet.parse(key)

    torch.testing.assert_close(encoder(image, subnet), sliced(subnet)(image), rtol=1e-5, atol=1e-5)


def test_weights_go_both_ways_between_it_and_the_stock_encoder(encoder):
    assert encoder.state_dict().keys() == stock(TINY).state_dict().keys()
    stock(TINY).load_state_dict(encoder.state_dict())


def test_it_trains_the_weights_that_it_was_given(image):
    adopted = stock(TINY)

    ElasticEncoder(adopted, TINY)(image).sum().backward()

    assert all(parameter.grad is not None for parameter in adopted.parameters())


def test_weights_beyond_a_width_and_of_dropped_blocks_get_no_gradient(encoder, image):
    encoder(image, Subnet.parse("64-0-128-128")).square().sum().backward()

    first = encoder.blocks[0].mlp
    assert first.lin1.weight.grad[64:].abs().max() == 0
    assert first.lin2.weight.grad[:, 64:].abs().max() == 0
    assert first.lin1.weight.grad[:64].abs().max() > 0
    assert encoder.blocks[1].mlp.lin1.weight.grad is None


def test_gradient_checkpointing_changes_no_gradient(encoder, image):
    def gradients():
        encoder.zero_grad()
        encoder(image, Subnet.parse("64-128-0-32")).square().sum().backward()
        return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]

    plain = gradients()
    encoder.checkpointing = True

    torch.testing.assert_close(gradients(), plain)


def test_it_runs_under_bf16_autocast(encoder, image):
    exact = encoder(image)

    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(image)
    rough.float().square().sum().backward()

    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in encoder.parameters())


@pytest.mark.parametrize("key", ["64-64", "64-64-64-129"])
def test_a_sub_network_that_does_not_fit_is_refused(encoder, image, key):
    with pytest.raises(ValueError, match=f"subnet is {key}; tiny takes 4 widths of at most 128"):
        encoder(image, Subnet.parse(key))


def test_an_encoder_of_another_depth_is_refused():
    with pytest.raises(ValueError, match="the encoder has 4 blocks; vit_mini has 12"):
        ElasticEncoder(stock(TINY), SHAPES["vit_mini"])
