from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micrograph_world import box, disc, record

from quatrain.errors import UsageError
from quatrain.micrograph.config import RULES, RemovalConfig
from quatrain.micrograph.masks import read_masks
from quatrain.micrograph.removal import remove

HW = (200, 200)


def removal(*records, **settings):
    masks = read_masks([one if isinstance(one, dict) else record(one) for one in records], HW)
    return remove(masks, RemovalConfig(**settings))


def reasons(found):
    return {one.index: (one.rule, one.partner) for one in found.removed}


def kept(found):
    return [mask.index for mask in found.kept]


def test_of_two_masks_that_are_nearly_one_the_better_stays():
    found = removal(record(box(HW, 0, 0, 80, 80), 0.8), record(box(HW, 0, 0, 80, 84), 0.9))

    assert kept(found) == [1]
    assert reasons(found) == {0: ("duplicates", 1)}
    assert found.removed[0].value == pytest.approx(80 / 84)
    assert found.removed[0].threshold == 0.8


def test_the_stability_counts_as_much_as_the_predicted_iou():
    found = removal(record(box(HW, 0, 0, 80, 80), 0.8, 1.0), record(box(HW, 0, 0, 80, 84), 0.9, 0.8))

    assert kept(found) == [0]


def test_a_chain_of_likenesses_ends_at_the_best():
    chain = [record(box(HW, 0, 0, 80, 80 + 10 * i), score) for i, score in enumerate((0.7, 0.9, 0.8))]

    assert kept(removal(*chain, duplicate_iou=0.85)) == [1]


def test_a_mask_of_the_whole_image_goes():
    found = removal(np.ones(HW, bool), box(HW, 10, 10, 90, 90))

    assert reasons(found) == {0: ("whole-image", None)}


def test_of_masks_of_the_whole_image_the_best_stays_where_there_is_nothing_else_but_specks():
    better, worse = record(np.ones(HW, bool), 0.9, 1.0), record(box(HW, 0, 0, 196, 200), 0.8, 1.0)
    speck = box(HW, 50, 50, 58, 58)

    found = removal(worse, better, speck, order=("whole-image",))

    assert kept(found) == [1, 2]
    assert reasons(found)[0] == ("whole-image", None)


def test_a_parent_that_its_children_cover_goes_and_they_stay():
    parent = box(HW, 0, 0, 100, 100)
    found = removal(parent, box(HW, 0, 0, 40, 100), box(HW, 50, 0, 90, 100))

    assert kept(found) == [1, 2]
    assert reasons(found)[0][0] == "compound-parents"
    assert found.removed[0].value == pytest.approx(0.8)


def test_a_parent_with_little_in_it_stays():
    assert kept(removal(box(HW, 0, 0, 100, 100), box(HW, 0, 0, 60, 100))) == [0, 1]


def test_children_that_have_gone_do_not_count_for_the_next_parent():
    whole, half = box(HW, 0, 0, 100, 100), box(HW, 0, 0, 80, 100)
    parts = [box(HW, 0, 0, 38, 100), box(HW, 40, 0, 78, 100)]

    found = removal(whole, half, *parts, duplicate_iou=0.9)

    assert set(reasons(found)) == {0, 1}
    assert kept(found) == [2, 3]


def test_a_speck_in_a_large_mask_goes():
    found = removal(box(HW, 0, 0, 150, 150), box(HW, 20, 20, 40, 40))

    assert reasons(found) == {1: ("tiny-children", 0)}


def test_the_smallest_parent_decides_what_is_tiny():
    found = removal(box(HW, 0, 0, 150, 150), box(HW, 10, 10, 60, 60), box(HW, 20, 20, 40, 40))

    assert kept(found) == [0, 1, 2]


def test_a_speck_in_nothing_goes():
    found = removal(box(HW, 0, 0, 90, 90), box(HW, 150, 150, 158, 158), island_image_share=0.01)

    assert reasons(found) == {1: ("island-masks", None)}


def test_islands_are_dropped_and_holes_are_filled():
    pixels = box(HW, 0, 0, 90, 90) & ~box(HW, 30, 30, 34, 34) | box(HW, 150, 150, 155, 155)

    (mask,) = removal(pixels).kept

    assert np.array_equal(mask.pixels(), box(HW, 0, 0, 90, 90))


def test_an_empty_mask_is_removed_by_the_islands_rule():
    assert reasons(removal(np.zeros(HW, bool), box(HW, 0, 0, 90, 90))) == {0: ("islands", None)}


def test_a_rule_that_is_not_named_is_not_applied():
    order = tuple(rule for rule in RULES if rule != "tiny-children")

    assert kept(removal(box(HW, 0, 0, 150, 150), box(HW, 20, 20, 40, 40), order=order)) == [0, 1]


def test_the_order_is_that_of_the_setting():
    found = removal(box(HW, 0, 0, 90, 90), order=("whole-image", "islands"))

    assert [name for name, _ in found.after] == ["whole-image", "islands"]


@given(st.integers(0, 2**32), st.permutations(RULES))
def test_every_mask_is_either_kept_or_removed_once(seed, order):
    rng = np.random.default_rng(seed)
    masks = [disc(HW, rng.uniform(0, 200, 2), rng.uniform(3, 90)) for _ in range(12)]
    masks = [mask for mask in masks if mask.any()]

    found = removal(*masks, order=tuple(order))

    assert sorted([*kept(found), *(one.index for one in found.removed)]) == list(range(len(masks)))
    sizes = [len(left) for _, left in found.after]
    assert sizes == sorted(sizes, reverse=True)


@given(st.integers(0, 2**32))
def test_removing_twice_removes_no_duplicate_more(seed):
    rng = np.random.default_rng(seed)
    masks = read_masks(
        [record(disc(HW, rng.uniform(50, 150, 2), rng.uniform(20, 60)), rng.random()) for _ in range(12)], HW
    )
    config = RemovalConfig(order=("duplicates",))
    once = remove(masks, config)

    assert remove(once.kept, config).kept == once.kept


def particles(count, side=20):
    return [box(HW, 30 * (i // 6), 30 * (i % 6), 30 * (i // 6) + side, 30 * (i % 6) + side) for i in range(count)]


def test_a_rule_that_would_remove_a_whole_phase_is_skipped_and_named():
    found = removal(np.ones(HW, bool), *particles(12), order=("tiny-children",))

    assert len(found.kept) == 13
    (spared,) = found.spared
    assert (spared.rule, spared.masks) == ("tiny-children", 12)
    assert spared.share == pytest.approx(12 * 400 / 40_000)


def test_a_few_particles_or_small_ones_are_not_a_phase():
    few = removal(np.ones(HW, bool), *particles(9), order=("tiny-children",))
    small = removal(np.ones(HW, bool), *particles(12, side=8), order=("tiny-children",))
    unguarded = removal(np.ones(HW, bool), *particles(12), order=("tiny-children",), phase_share=1)

    assert [len(one.kept) for one in (few, small, unguarded)] == [1, 1, 1]
    assert few.spared == small.spared == unguarded.spared == ()


def test_no_masks_give_no_masks():
    assert remove([]).kept == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"order": ("island",)}, "did you mean"),
        ({"parent_covered": 1.2}, "parent_covered is 1.2"),
        ({"duplicate_iou": 0.3}, "between 0.5 and 1"),
        ({"island_px": -1}, "at least 0"),
    ],
)
def test_a_bad_threshold_is_refused_with_its_range(settings, words):
    with pytest.raises((ValueError, UsageError), match=words):
        replace(RemovalConfig(), **settings)
