from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supernet_world import TINY, Rectangles, elastic

from quatrain.supernet.block_importance import block_importance, drop_probabilities, greedy_blocks, removable_blocks
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.evaluation import EvalSet, evaluate
from quatrain.supernet.space import Subnet


@pytest.fixture(scope="module")
def eval_set():
    return EvalSet.of(Rectangles(), range(6), image_px=TINY.image_px, seed=7)


def silence(block):
    """Make both branches of a block put out zero."""
    with torch.no_grad():
        for layer in (block.attn.proj, block.mlp.lin2):
            layer.weight.zero_()
            layer.bias.zero_()


@pytest.mark.parametrize("silent", range(4))
def test_a_block_that_adds_nothing_is_worth_nothing(eval_set, silent):
    sam = elastic()
    silence(sam.image_encoder.blocks[silent])

    importance = block_importance(sam, sam.image_encoder, eval_set)

    assert importance.drop[silent] == 0
    assert any(importance.drop)


def test_a_block_is_worth_the_iou_that_is_lost_without_it(eval_set):
    sam = elastic(seed=2)

    importance = block_importance(sam, sam.image_encoder, eval_set, batch=4)

    def miou(subnet):
        return evaluate(sam, lambda images: sam.image_encoder(images, subnet), eval_set, batch=4).miou_oracle

    full = miou(full_subnet(TINY))
    without = [Subnet(widths=tuple(0 if i == block else 96 for i in range(4))) for block in range(4)]
    assert importance.miou == pytest.approx(full)
    assert importance.drop == pytest.approx([full - miou(subnet) for subnet in without])


@pytest.mark.parametrize(("depth", "count"), [(12, 5), (24, 10), (32, 13)])
def test_the_share_makes_so_many_blocks_removable(depth, count):
    assert len(removable_blocks(tuple(range(depth)), 0.42)) == count


def test_the_least_important_blocks_are_removable():
    assert removable_blocks((0.0, 0.3, -0.1, 0.2, 0.1, 0.4, -0.5), 3 / 7) == (2, 3, 4)


drops = st.lists(st.floats(-1, 1), min_size=2, max_size=32).map(tuple)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(drops, st.floats(0, 0.99))
def test_the_first_and_the_last_block_stay(drop, share):
    removable = removable_blocks(drop, share)

    assert set(removable) <= set(range(1, len(drop) - 1))
    assert list(removable) == sorted(set(removable))
    assert len(removable) == min(round(share * len(drop)), len(drop) - 2)
    kept = [drop[block] for block in range(1, len(drop) - 1) if block not in removable]
    assert not removable or not kept or max(drop[block] for block in removable) <= min(kept)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(drops, st.floats(0, 0.99))
def test_the_less_important_of_two_blocks_is_dropped_at_least_as_often(drop, share):
    removable = removable_blocks(drop, share)

    chances = drop_probabilities(drop, removable, None)

    assert all(0.2 <= chance <= 0.8 + 1e-12 for chance in chances)
    ranked = sorted(zip((drop[block] for block in removable), chances, strict=True), key=lambda pair: pair[0])
    assert all(low[1] >= high[1] for low, high in itertools.pairwise(ranked) if low[0] < high[0])


def test_chances_run_from_four_fifths_to_a_fifth():
    assert drop_probabilities((0, 0.3, -0.1, 0.2, 0), (1, 2, 3), None) == pytest.approx((0.2, 0.8, 0.5))


def test_a_fixed_chance_holds_for_every_block():
    assert drop_probabilities((0, 0.3, -0.1, 0.2, 0), (1, 2, 3), 0.5) == (0.5, 0.5, 0.5)


def test_a_single_removable_block_and_none_have_chances_too():
    assert drop_probabilities((0, 0.3, 0), (1,), None) == (0.8,)
    assert drop_probabilities((0, 0.3, 0), (), None) == ()


def test_greedy_removal_scores_the_blocks_that_are_left_again():
    worth = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9}

    def miou(subnet):
        gone = {block for block, width in enumerate(subnet.widths) if not width}
        together = 0.5 if {1, 2} <= gone else 0.0  # 2 does what 1 did, once 1 is gone
        return 5 - sum(worth[block] for block in gone) - together

    assert greedy_blocks(miou, Subnet(widths=(8,) * 6), 0.34) == (1, 3)
    assert removable_blocks((9, 0.1, 0.2, 0.3, 0.9, 9), 0.34) == (1, 2)


@given(st.integers(2, 9), st.floats(0, 0.99), st.randoms(use_true_random=False))
def test_greedy_removal_leaves_the_first_and_the_last_block(depth, share, random):
    order = greedy_blocks(lambda _: random.random(), Subnet(widths=(8,) * depth), share)

    assert len(order) == len(set(order)) == min(round(share * depth), depth - 2)
    assert set(order) <= set(range(1, depth - 1))
