from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.seeding import derive, numpy_rng

SEEDS = st.integers(0, 2**31 - 1)
NAMES = st.lists(st.integers(0, 99) | st.text("abcxyz-", max_size=4), max_size=4)


@given(SEEDS, NAMES)
def test_a_derived_seed_is_one_that_numpy_and_torch_take(seed, names):
    value = derive(seed, *names)

    assert 0 <= value < 2**63
    assert torch.Generator().manual_seed(value).initial_seed() == value


@given(SEEDS, NAMES, NAMES)
def test_derived_seeds_are_equal_exactly_when_their_names_are(seed, names, others):
    same = [str(name) for name in names] == [str(name) for name in others]

    assert (derive(seed, *names) == derive(seed, *others)) == same


@given(SEEDS, SEEDS)
def test_the_same_names_under_another_seed_are_another_stream(seed, other):
    assert (derive(seed, "made", 3) == derive(other, "made", 3)) == (seed == other)


def test_names_are_kept_apart_and_in_their_order():
    assert len({derive(0), derive(0, "ab"), derive(0, "a", "b"), derive(0, "b", "a"), derive(0, "a", "b", "")}) == 5


def test_derived_seeds_stay_what_they_are_on_every_machine_and_in_every_release():
    assert derive(0) == 3456079177858693020
    assert derive(7, "made", 3) == 3366038285939539394


def test_a_stream_does_not_depend_on_which_were_drawn_before():
    alone = numpy_rng(5, "prompts", "b").random(4)
    numpy_rng(5, "prompts", "a").random(100)

    np.testing.assert_array_equal(numpy_rng(5, "prompts", "b").random(4), alone)


def test_streams_of_different_names_are_not_alike():
    first, second = (numpy_rng(5, name).random(1000) for name in ("a", "b"))

    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
