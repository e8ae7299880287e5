from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from quatrain.errors import UsageError
from quatrain.sam.build import image_encoder
from quatrain.sam.official import ImageEncoderViT
from quatrain.sam.registry import SHAPES, SamShape, shape
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Subnet

TINY = SamShape(
    name="tiny",
    image_px=80,  # a grid of 5, which windows of 2 and 4 must pad
    patch_px=16,
    embed_dim=12,
    depth=3,
    heads=3,
    global_blocks=(1,),
    window=4,
    prompt_dim=8,
    decoder_mlp=8,
    decoder_heads=2,
)


def built(sam: SamShape, subnet: Subnet) -> ImageEncoderViT:
    """Return the stock encoder without memory for its weights, its blocks and MLPs cut by hand."""
    with torch.device("meta"):
        encoder = image_encoder(sam)
        for block in subnet.kept:
            encoder.blocks[block].mlp.lin1 = torch.nn.Linear(sam.embed_dim, subnet.widths[block])
            encoder.blocks[block].mlp.lin2 = torch.nn.Linear(subnet.widths[block], sam.embed_dim)
    encoder.blocks = torch.nn.ModuleList(encoder.blocks[block] for block in subnet.kept)
    return encoder


def counted_parameters(encoder):
    return sum(parameter.numel() for parameter in encoder.parameters())


def counted_macs(encoder, image_px):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.empty(1, 3, image_px, image_px))
    return counter.get_total_flops() / 2


def subnet_of(sam, width, removed=(), fixed=()):
    widths = [0 if block in removed else sam.hidden if block in fixed else width for block in range(sam.depth)]
    return Subnet(widths=tuple(widths))


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("vit_b", 89_670_912, 486.0), ("vit_l", 308_278_272, 1493), ("vit_h", 637_026_048, 2981)],
)
def test_the_official_encoders_have_their_known_sizes(name, parameters, gmacs):
    sam = SHAPES[name]

    assert encoder_parameters(sam, full_subnet(sam)) == parameters
    assert encoder_macs(sam, full_subnet(sam)) / 1e9 == pytest.approx(gmacs, rel=5e-4)


@pytest.mark.parametrize(
    ("width", "removed", "parameters_m", "gmacs"),
    [(768, (1, 2, 5, 6, 9), 32.94, 191.3), (768, (), 50.72, 326.6), (1536, (1, 2, 5, 6, 9), 40.02, 220.3)],
)
def test_the_marks_of_the_authors_space_have_their_known_sizes(width, removed, parameters_m, gmacs):
    sam = SHAPES["vit_b"]
    subnet = subnet_of(sam, width, removed, fixed=(0,))

    assert round(encoder_parameters(sam, subnet) / 1e6, 2) == parameters_m
    assert round(encoder_macs(sam, subnet) / 1e9, 1) == gmacs


@pytest.mark.parametrize("name", ["vit_mini", "vit_b"])
def test_parameters_are_those_of_the_built_encoder(name):
    sam = SHAPES[name]

    assert encoder_parameters(sam, full_subnet(sam)) == counted_parameters(built(sam, full_subnet(sam)))


def test_macs_are_those_that_torch_counts_in_vit_b():
    sam = SHAPES["vit_b"]
    subnet = subnet_of(sam, 768, removed=(1, 2, 5), fixed=(0,))

    assert encoder_macs(sam, subnet) == counted_macs(built(sam, subnet), sam.image_px)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 48), min_size=3, max_size=3).filter(any), st.sampled_from([2, 3, 4, 5]))
def test_any_subnetwork_has_the_parameters_and_macs_of_the_one_built_so(widths, window):
    sam, subnet = dataclasses.replace(TINY, window=window), Subnet(widths=tuple(widths))
    encoder = built(sam, subnet)

    assert encoder_parameters(sam, subnet) == counted_parameters(encoder)
    assert encoder_macs(sam, subnet) == counted_macs(encoder, sam.image_px)


@given(st.lists(st.integers(0, 383), min_size=12, max_size=12), st.integers(0, 11))
def test_a_wider_block_always_costs_more(widths, block):
    sam = SHAPES["vit_mini"]
    wider = [width + (index == block) for index, width in enumerate(widths)]

    for cost in (encoder_parameters, encoder_macs):
        assert cost(sam, Subnet(widths=tuple(wider))) > cost(sam, Subnet(widths=tuple(widths)))


def test_dropping_a_global_block_saves_more_than_dropping_a_window():
    sam = SHAPES["vit_b"]
    full, windowed, wide = (encoder_macs(sam, subnet_of(sam, sam.hidden, removed)) for removed in ((), (1,), (2,)))

    assert (full - windowed) / 1e9 == pytest.approx(32.4 + 0.1, abs=0.1)  # the second part: relative positions
    assert (full - wide) / 1e9 == pytest.approx(54.8 + 0.4, abs=0.1)


@pytest.mark.parametrize("sam", SHAPES.values(), ids=SHAPES)
def test_every_shape_fits_together(sam):
    assert shape(sam.name) is sam
    assert sam.image_px == sam.grid * sam.patch_px
    assert sam.embed_dim % sam.heads == 0
    assert full_subnet(sam).widths == (4 * sam.embed_dim,) * sam.depth
    assert len(sam.global_blocks) == 4
    assert sam.global_blocks[-1] == sam.depth - 1
    assert {sam.span(block) for block in sam.global_blocks} == {sam.grid}
    assert {sam.span(block) for block in range(sam.depth)} == {sam.grid, sam.window}


def test_the_official_models_report_where_they_are_published_and_the_miniature_ships():
    for name, digest in (("vit_b", "ec2df627"), ("vit_l", "3adcc431"), ("vit_h", "a7bf3b02")):
        assert re.fullmatch(digest + r"[0-9a-f]{56}", SHAPES[name].checkpoint_sha256)
        assert re.fullmatch(rf"https://.*/sam_{name}_[0-9a-f]{{6}}\.pth", SHAPES[name].checkpoint_url)
    assert (SHAPES["vit_mini"].checkpoint_sha256, SHAPES["vit_mini"].checkpoint_url) == (None, None)


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="there is no model 'vit-b': did you mean 'vit_b'"):
        shape("vit-b")
