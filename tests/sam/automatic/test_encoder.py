from __future__ import annotations

import pytest
import torch

from quatrain import compat
from quatrain.sam.attention import attend
from quatrain.sam.automatic.encoder import attend_globally, encode
from quatrain.sam.build import image_encoder, load_mini, plain_encoder
from quatrain.sam.registry import SHAPES
from quatrain.supernet.space import Subnet

compat.torchvision_ops()

from segment_anything.modeling.image_encoder import Attention  # noqa: E402 - after the stand-in


@pytest.fixture
def image():
    return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))


def _error(encoder, image, precision):
    with torch.no_grad():
        stock = encoder(image)
        return ((encode(encoder, image, precision) - stock).norm() / stock.norm()).item()


def test_the_embedding_is_the_stock_one(image):
    assert _error(load_mini().image_encoder, image, "fp32") < 1e-5


@pytest.mark.parametrize(("grid", "made_for"), [((6, 6), 6), ((5, 7), 6), ((1, 3), 4)])
def test_global_attention_is_the_fused_one(grid, made_for):
    attention = Attention(16, num_heads=2, use_rel_pos=True, input_size=(made_for, made_for))
    torch.nn.init.normal_(attention.rel_pos_h)
    torch.nn.init.normal_(attention.rel_pos_w)
    qkv = torch.randn(1, *grid, 48)

    with torch.no_grad():
        ours = attend_globally(qkv, attention)

        torch.testing.assert_close(ours, attend(qkv, attention, 0), rtol=1e-4, atol=1e-5)


def test_half_precision_stays_near(image):
    assert 1e-5 < _error(load_mini().image_encoder, image, "bf16") < 0.03


def test_a_sub_network_encodes_as_it_does_by_itself(image):
    subnet = Subnet(widths=(384, 0, 64, 384, 128, 0, 0, 64, 384, 0, 96, 384))

    assert _error(plain_encoder(SHAPES["vit_mini"], subnet.widths).eval(), image, "fp32") < 1e-5


@pytest.mark.parametrize("changes", [{"use_rel_pos": False}, {"use_abs_pos": False}])
def test_encoders_without_one_kind_of_positions_encode_too(image, changes):
    assert _error(image_encoder(SHAPES["vit_mini"], **changes).eval(), image, "fp32") < 1e-5


def test_an_encoder_of_another_make_runs_as_it_is(image):
    other = torch.nn.Conv2d(3, 64, 16, stride=16)

    assert _error(other, image, "fp32") == 0
