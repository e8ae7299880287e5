from __future__ import annotations

import math

import pytest
import torch
from supernet_world import rand

from quatrain.supernet.config import LossConfig
from quatrain.supernet.losses import dice, distillation, focal, mask_iou, sam_loss

SURE = 30.0
"""A logit whose sigmoid is 1 in float32."""
TOP = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
LEFT = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
DICE = LossConfig(dice=1, focal=0, entropy=0, iou=0)


def sure(mask):
    return SURE * (2 * mask - 1)


def answers(*masks):
    """Logits of one prompt of one image, (1, 1, M, 2, 2)."""
    return torch.stack([sure(mask) for mask in masks])[None, None]


def test_dice_of_half_an_overlap():
    assert dice(sure(TOP), LEFT).item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))


def test_dice_of_a_perfect_mask_is_zero():
    assert dice(sure(TOP), TOP).item() == pytest.approx(0, abs=1e-6)


def test_dice_takes_shares_of_pixels_as_truth():
    assert dice(sure(TOP), TOP / 2).item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 1 + 1))


@pytest.mark.parametrize(("truth", "weight"), [(1.0, 0.25), (0.0, 0.75)])
def test_focal_of_an_undecided_pixel(truth, weight):
    value = focal(torch.zeros(2, 2), torch.full((2, 2), truth))

    assert value.item() == pytest.approx(weight * 0.5**2 * math.log(2))


def test_focal_weighs_down_pixels_that_are_right():
    logit = torch.tensor([[2.0]])
    right = 1 / (1 + math.exp(-2))

    assert focal(logit, torch.ones(1, 1)).item() == pytest.approx(0.25 * (1 - right) ** 2 * -math.log(right), rel=1e-5)
    assert focal(logit, torch.ones(1, 1), alpha=1, gamma=0).item() == pytest.approx(-math.log(right), rel=1e-5)


@pytest.mark.parametrize(
    ("mask", "truth", "iou"),
    [(TOP, TOP, 1), (TOP, LEFT, 1 / 3), (TOP, 1 - TOP, 0), (torch.zeros(2, 2), torch.zeros(2, 2), 0)],
)
def test_intersection_over_union(mask, truth, iou):
    assert mask_iou(sure(mask), truth).item() == pytest.approx(iou)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_the_best_of_the_three_counts_beside_the_single_mask(place):
    masks = [LEFT, 1 - TOP, 1 - TOP, 1 - TOP]
    masks[place] = TOP

    loss = sam_loss(answers(*masks), torch.zeros(1, 1, 4), TOP[None, None], DICE)

    assert loss.item() == pytest.approx(0.4 + 0, abs=1e-5)


def test_only_the_single_mask_and_the_best_candidate_learn():
    logits = answers(LEFT, 1 - TOP, LEFT, 1 - TOP).mul(0.05).requires_grad_()

    sam_loss(logits, torch.zeros(1, 1, 4), TOP[None, None], DICE).backward()

    assert [bool(logits.grad[0, 0, token].any()) for token in range(4)] == [True, False, True, False]


def test_every_prompt_has_a_best_candidate_of_its_own():
    first, second = answers(TOP, TOP, LEFT, LEFT), answers(TOP, LEFT, LEFT, TOP)
    truth = TOP.expand(1, 2, 2, 2)

    loss = sam_loss(torch.cat([first, second], dim=1), torch.zeros(1, 2, 4), truth, DICE)

    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_the_single_mask_alone_can_be_supervised():
    config = LossConfig(dice=1, focal=0, iou=1, single_mask_only=True)
    logits = answers(TOP, LEFT, LEFT, LEFT).requires_grad_()
    iou = torch.tensor([[[0.5, 9.0, 9.0, 9.0]]])

    loss = sam_loss(logits, iou, TOP[None, None], config)
    loss.backward()

    assert loss.item() == pytest.approx((0.5 - 1) ** 2, abs=1e-6)
    assert not logits.grad[0, 0, 1:].any()


def test_the_iou_head_is_drawn_to_the_iou_that_its_masks_reach():
    config = LossConfig(dice=1, focal=0, iou=3)
    logits, iou = answers(TOP, TOP, LEFT, 1 - TOP), torch.tensor([[[1.0, 0.5, 0.0, 0.25]]])

    with_head = sam_loss(logits, iou, TOP[None, None], config)
    without = sam_loss(logits, iou, TOP[None, None], DICE)

    errors = (0, 0.5**2, (1 / 3) ** 2, 0.25**2)
    assert (with_head - without).item() == pytest.approx(3 * sum(errors) / 4, rel=1e-5)


def test_the_iou_heads_error_moves_no_mask():
    logits, iou = rand(1, 2, 4, 4, 4), rand(1, 2, 4, seed=1).requires_grad_()
    truth = (rand(1, 2, 4, 4, seed=2) > 0).float()
    gradients = []
    for weight in (0.0, 5.0):
        leaf = logits.clone().requires_grad_()
        sam_loss(leaf, iou, truth, LossConfig(iou=weight)).backward()
        gradients.append(leaf.grad)

    assert torch.equal(*gradients)
    assert iou.grad.any()


@pytest.mark.parametrize(
    ("only", "part"),
    [
        ({"dice": 2.0}, lambda logits, truth: 2 * dice(logits, truth)),
        ({"focal": 20.0}, lambda logits, truth: 20 * focal(logits, truth)),
        (
            {"entropy": 0.5},
            lambda logits, truth: (
                0.5
                * torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((-2, -1))
            ),
        ),
    ],
)
def test_a_weight_of_zero_switches_its_part_off(only, part):
    config = LossConfig(**({"dice": 0, "focal": 0, "entropy": 0, "iou": 0} | only))
    logits, truth = rand(2, 3, 4, 8, 8), (rand(2, 3, 8, 8, seed=1) > 0).float()

    loss = sam_loss(logits, rand(2, 3, 4), truth, config)

    each = part(logits, truth[:, :, None].expand_as(logits))
    torch.testing.assert_close(loss, each[..., 0].mean() + each[..., 1:].amin(-1).mean())


def test_a_share_of_the_candidates_loss_goes_to_all_of_them():
    logits, truth = rand(2, 3, 4, 8, 8).requires_grad_(), (rand(2, 3, 8, 8, seed=1) > 0).float()

    def loss(others):
        return sam_loss(logits, rand(2, 3, 4), truth, LossConfig(dice=1, focal=0, iou=0, others=others))

    each = dice(logits, truth[:, :, None].expand_as(logits))
    torch.testing.assert_close(loss(1.0), each[..., 0].mean() + each[..., 1:].mean())
    torch.testing.assert_close(loss(0.25), 0.75 * loss(0.0) + 0.25 * loss(1.0))
    (gradient,) = torch.autograd.grad(loss(0.25), logits)
    assert (gradient.abs().amax(dim=(-2, -1)) > 0).all()


def test_an_iou_weight_of_zero_leaves_the_head_without_gradient():
    iou = rand(1, 1, 4).requires_grad_()

    loss = sam_loss(rand(1, 1, 4, 4, 4).requires_grad_(), iou, torch.ones(1, 1, 4, 4), LossConfig(iou=0))
    loss.backward()

    assert iou.grad is None


def test_distillation_is_least_where_pupil_and_teacher_agree():
    teacher = answers(TOP, LEFT, TOP, LEFT)

    same = distillation(teacher, teacher, LossConfig())
    other = distillation(-teacher, teacher, LossConfig())

    assert same.item() == pytest.approx(0, abs=1e-5)
    assert other.item() > SURE / 2


def test_a_pupil_is_drawn_to_the_teachers_own_doubt():
    pupil, teacher = torch.full((1, 1, 4, 2, 2), 3.0).requires_grad_(), torch.zeros(1, 1, 4, 2, 2)

    distillation(pupil, teacher, LossConfig()).backward()

    assert (pupil.grad > 0).all()


def test_distillation_can_be_of_the_single_mask_alone():
    config = LossConfig(single_mask_only=True)
    teacher = answers(TOP, TOP, TOP, TOP)

    assert distillation(answers(TOP, LEFT, LEFT, LEFT), teacher, config).item() == pytest.approx(0, abs=1e-5)
    assert distillation(answers(LEFT, TOP, TOP, TOP), teacher, config).item() > 1
