from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.data.split import split

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=3, max_size=40, unique=True)
RATIOS = st.floats(0.01, 10)
HALF = {"train": 0.5, "validation": 0.25, "test": 0.25}


@given(NAMES, RATIOS, RATIOS, RATIOS, st.integers(0, 2**40))
def test_every_image_stands_in_exactly_one_part_and_no_part_is_empty(names, train, validation, test, seed):
    parts = split(names, train=train, validation=validation, test=test, seed=seed)

    assert sorted(parts.train + parts.validation + parts.test) == sorted(names)
    assert parts.train
    assert parts.validation
    assert parts.test


@given(NAMES, st.integers(0, 2**40), st.randoms())
def test_the_order_of_the_names_does_not_matter(names, seed, random):
    shuffled = random.sample(names, len(names))

    assert split(names, **HALF, seed=seed) == split(shuffled, **HALF, seed=seed)


@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 99))
def test_counts_that_add_up_are_kept(counts, seed):
    names = [f"image {i}" for i in range(sum(counts))]

    parts = split(names, train=counts[0], validation=counts[1], test=counts[2], seed=seed)

    assert (len(parts.train), len(parts.validation), len(parts.test)) == counts


def test_eight_images_in_halves_and_quarters():
    parts = split("abcdefgh", **HALF, seed=0)

    assert (len(parts.train), len(parts.validation), len(parts.test)) == (4, 2, 2)


def test_another_seed_deals_otherwise():
    assert len({split("abcdefgh", **HALF, seed=seed) for seed in range(20)}) > 10


def test_two_images_are_too_few():
    with pytest.raises(ValueError, match="names holds 2 images; train, validation and test need one each"):
        split(["a", "b"], **HALF, seed=0)


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="'b' twice"):
        split(["a", "b", "b", "c"], **HALF, seed=0)


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf")])
def test_a_ratio_that_is_not_positive_is_refused(ratio):
    with pytest.raises(ValueError, match=r"test is .* it must be a positive number"):
        split("abc", train=1, validation=1, test=ratio, seed=0)
