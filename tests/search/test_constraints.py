from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_worlds import MINI, SAM

from quatrain.errors import UsageError
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds, check_amount, parse_amount
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Subnet


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("40M", 40_000_000),
        ("1.2G", 1_200_000_000),
        ("1.2b", 1_200_000_000),
        ("700 k", 700_000),
        ("2T", 2_000_000_000_000),
        ("123456", 123_456),
        ("1_500_000", 1_500_000),
        (" 0.1M ", 100_000),
    ],
)
def test_amounts_are_read_as_people_write_them(text, amount):
    assert parse_amount(text) == amount


@given(st.integers(1, 10**12))
def test_a_number_without_unit_is_itself(amount):
    assert parse_amount(str(amount)) == amount


def test_a_share_is_taken_of_the_full_network():
    assert parse_amount("60%", full=1001) == 600
    assert parse_amount("100%", full=1001) == 1001


@pytest.mark.parametrize("text", ["", "M", "forty", "-3M", "4,5M", "40MB", "nan", "1e6", "40M 50M"])
def test_what_is_no_amount_is_named_with_examples(text):
    with pytest.raises(UsageError, match="is not an amount: write a number such as 40M"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["0", "0%", "0.0M", "101%"])
def test_nothing_and_more_than_everything_are_out_of_range(text):
    with pytest.raises(UsageError, match="out of range"):
        parse_amount(text)


def test_settings_can_be_checked_before_the_network_is_known():
    check_amount(None)
    check_amount("60%")
    with pytest.raises(UsageError):
        check_amount("60 percent")


def test_bounds_count_what_the_encoder_really_has():
    vit_b = shape("vit_b")
    bounds = Bounds.parse(vit_b, max_params="60%", max_macs="300G")

    assert bounds.max_params == encoder_parameters(vit_b, full_subnet(vit_b)) * 60 // 100
    assert bounds.max_macs == 300_000_000_000


def test_a_network_exactly_at_the_bound_is_admitted_and_one_parameter_less_is_not():
    size = encoder_parameters(SAM, MINI.largest())

    assert Bounds(sam=SAM, max_params=size).admits(MINI.largest())
    assert not Bounds(sam=SAM, max_params=size - 1).admits(MINI.largest())


def test_each_limit_counts_for_itself():
    macs = encoder_macs(SAM, MINI.largest())

    assert Bounds(sam=SAM).admits(MINI.largest())
    assert not Bounds(sam=SAM, max_params=10**9, max_macs=macs - 1).admits(MINI.largest())


def test_an_impossible_bound_is_refused_with_the_smallest_networks_figure():
    smallest = f"{encoder_parameters(SAM, MINI.smallest()):,}"

    with pytest.raises(UsageError, match=f"at most 1,000 parameters.*{smallest}.*--max-params"):
        Bounds(sam=SAM, max_params=1000).check(MINI)
    with pytest.raises(UsageError, match=r"at most 1,000 multiply-accumulates.*--max-macs"):
        Bounds.parse(SAM, max_params="100%", max_macs="1k").check(MINI)


def test_a_bound_at_the_smallest_network_is_possible():
    Bounds(sam=SAM, max_params=encoder_parameters(SAM, MINI.smallest())).check(MINI)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_macs is 0; it must be at least 1"):
        Bounds(sam=SAM, max_macs=0)


@given(st.lists(st.sampled_from([0, 96, 384]), min_size=12, max_size=12))
def test_narrower_networks_are_never_larger(widths):
    wide = Subnet(widths=tuple(384 if width else 0 for width in widths))

    assert encoder_parameters(SAM, Subnet(widths=tuple(widths))) <= encoder_parameters(SAM, wide)
    assert encoder_macs(SAM, Subnet(widths=tuple(widths))) <= encoder_macs(SAM, wide)
