from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.sam.registry import SHAPES
from quatrain.supernet.space import Space, Subnet, ratio_choices

WIDTHS = st.lists(st.integers(0, 5000), min_size=1, max_size=32).map(tuple)


@st.composite
def spaces(draw):
    depth = draw(st.integers(1, 4))
    choices = [draw(st.sets(st.integers(1, 9), min_size=1, max_size=3)) for _ in range(depth)]
    removable = draw(st.sets(st.integers(0, depth - 1), max_size=depth - 1))
    return Space(
        full=(9,) * depth,
        choices=tuple(tuple(sorted(widths)) for widths in choices),
        removable=tuple(sorted(removable)),
        drop_probability=tuple(draw(st.floats(0, 1)) for _ in removable),
    )


def every_net(space):
    """Go through all encodings, a width and a drop for each block, and collect the networks that they mean."""
    drops = [(False, True) if block in space.removable else (False,) for block in range(space.depth)]
    blocks = [itertools.product(*pair) for pair in zip(space.choices, drops, strict=True)]
    for encoding in itertools.product(*map(list, blocks)):
        yield Subnet(widths=tuple(0 if gone else width for width, gone in encoding))


def space(**changes):
    given_ = {"full": (8, 8, 8), "choices": ((4, 8),) * 3, "removable": (1,), "drop_probability": (0.5,)}
    return Space(**(given_ | changes))


@given(WIDTHS)
def test_a_key_reads_back_as_the_same_network(widths):
    subnet = Subnet(widths=widths)

    assert Subnet.parse(subnet.key) == subnet
    assert hash(Subnet.parse(subnet.key)) == hash(subnet)


@given(WIDTHS, WIDTHS)
def test_keys_are_equal_exactly_when_the_networks_are(one, other):
    assert (Subnet(widths=one).key == Subnet(widths=other).key) == (one == other)


def test_a_key_is_written_as_widths_between_dashes():
    assert Subnet(widths=(384, 0, 256)).key == "384-0-256"


@pytest.mark.parametrize("key", ["", "384-", "384--256", "-1", "wide", "384,256", "1.5", "{}"])
def test_text_that_is_no_key_is_refused_with_an_example(key):
    with pytest.raises(
        ValueError, match="is not a sub-network: write one width per block, such as 384-0-256"
    ) as caught:
        Subnet.parse(key)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("widths", [(), (4, -1)])
def test_a_network_has_blocks_of_no_negative_width(widths):
    with pytest.raises(ValueError, match=r"widths are .*; give one number of at least 0 per block"):
        Subnet(widths=widths)


@given(WIDTHS)
def test_the_kept_blocks_are_those_with_a_width(widths):
    kept = Subnet(widths=widths).kept

    assert list(kept) == sorted(kept)
    assert all((block in kept) == (width > 0) for block, width in enumerate(widths))


def test_a_network_travels_to_another_process():
    subnet = Subnet(widths=(4, 0))

    assert pickle.loads(pickle.dumps(subnet)) == subnet


@given(spaces())
def test_the_size_of_a_space_is_the_count_of_its_distinct_networks(space):
    assert space.size() == len(set(every_net(space)))


@given(spaces())
def test_every_network_of_a_space_passes_its_check(space):
    for subnet in every_net(space):
        space.check(subnet)


@given(spaces(), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_the_check_admits_exactly_the_networks_of_the_space(space, widths):
    subnet = Subnet(widths=tuple(widths))
    belongs = subnet in set(every_net(space))

    if belongs:
        space.check(subnet)
    else:
        with pytest.raises(ValueError, match="block"):
            space.check(subnet)


@given(spaces(), st.integers(0, 2**32 - 1))
def test_sampled_networks_belong_to_the_space(space, seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        space.check(space.sample(rng))


@given(spaces())
def test_the_ends_belong_to_the_space_and_bound_every_network_block_by_block(space):
    largest, smallest = space.largest(), space.smallest()
    space.check(largest)
    space.check(smallest)

    for subnet in every_net(space):
        for low, width, high in zip(smallest.widths, subnet.widths, largest.widths, strict=True):
            assert low <= width <= high


def test_samples_repeat_with_their_generator():
    drawn = [[space().sample(rng) for _ in range(4)] for rng in map(np.random.default_rng, (3, 3, 4))]

    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_blocks_are_dropped_as_often_as_they_should_and_widths_are_drawn_alike():
    sampled = space(removable=(1, 2), drop_probability=(0.2, 1.0))
    rng = np.random.default_rng(0)
    widths = np.array([sampled.sample(rng).widths for _ in range(2000)])

    assert (widths[:, 2] == 0).all()
    assert (widths[:, 1] == 0).mean() == pytest.approx(0.2, abs=0.03)
    assert (widths[:, 0] == 4).mean() == pytest.approx(0.5, abs=0.04)
    assert (widths[widths[:, 1] > 0, 1] == 4).mean() == pytest.approx(0.5, abs=0.04)


def test_a_sampled_network_holds_plain_numbers():
    assert all(type(width) is int for width in space().sample(np.random.default_rng(0)).widths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ((4, 8),) * 2}, "choices has 2 blocks; the network has 3"),
        ({"choices": ((4, 8), (8, 4), (8,))}, r"block 1 may take widths \(8, 4\); give ascending ones from 1 to 8"),
        ({"choices": ((4, 8), (), (8,))}, "block 1 may take widths"),
        ({"choices": ((0, 8), (8,), (8,))}, "block 0 may take widths"),
        ({"choices": ((4, 9), (8,), (8,))}, "block 0 may take widths"),
        ({"choices": ((4, 4), (8,), (8,))}, "block 0 may take widths"),
        ({"removable": (2, 1), "drop_probability": (0.5, 0.5)}, r"removable is \(2, 1\); give ascending blocks"),
        ({"removable": (3,)}, r"removable is \(3,\); give ascending blocks from 0 to 2"),
        ({"removable": (-1,)}, r"removable is \(-1,\)"),
        ({"removable": (0, 1, 2), "drop_probability": (0.5,) * 3}, "at least one must be kept"),
        ({"drop_probability": ()}, "drop_probability is"),
        ({"drop_probability": (1.5,)}, r"drop_probability is \(1.5,\); give one in \[0, 1\]"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_with_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        space(**changes)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("4-4", "4-4 has 2 blocks; the supernet has 3"),
        ("0-4-4", r"block 0 cannot be dropped; removable: \[1\]"),
        ("8-0-5", r"block 2 cannot be 5 wide; choices: \[4, 8\]"),
    ],
)
def test_the_check_names_the_first_block_that_offends(key, message):
    with pytest.raises(ValueError, match=message):
        space().check(Subnet.parse(key))


@given(
    st.integers(1, 6000),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
    st.integers(1, 256),
)
def test_ratio_choices_ascend_within_the_full_width_in_steps_of_the_multiple(full, ratios, multiple):
    widths = ratio_choices(full, ratios, multiple)

    assert list(widths) == sorted(set(widths))
    assert all(1 <= width <= full and (width == full or width % multiple == 0) for width in widths)
    assert len(widths) <= len(ratios)


@given(st.integers(1, 6000), st.floats(0.01, 1), st.integers(1, 256))
def test_a_rounded_width_is_the_multiple_nearest_to_its_ratio(full, ratio, multiple):
    (width,) = ratio_choices(full, [ratio], multiple)

    assert abs(width - full * ratio) <= multiple / 2 or width == min(full, multiple)


@pytest.mark.parametrize("sam", SHAPES.values(), ids=SHAPES)
def test_the_usual_choices_of_every_model_end_at_its_full_width(sam):
    widths = ratio_choices(sam.hidden)

    assert widths[-1] == sam.hidden
    assert widths[0] <= sam.hidden / 3


def test_the_usual_choices_of_vit_b():
    assert ratio_choices(3072) == (768, 1024, 1536, 2304, 3072)
