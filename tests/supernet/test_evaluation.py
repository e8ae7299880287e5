from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from supernet_world import TINY, Rectangles, elastic

from quatrain.data import prompts
from quatrain.errors import UsageError
from quatrain.sam.registry import SHAPES
from quatrain.supernet import evaluation as evaluate_module
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.evaluation import (
    EvalSet,
    Evaluator,
    ImageScore,
    ScoreSet,
    batch_size,
    candidate_masks,
    evaluate,
    image_batches,
)

SIDE = TINY.image_px


def rectangles_set(images=None, **changes):
    images = images or Rectangles()
    settings = {"image_px": SIDE, "seed": 7}
    return EvalSet.of(images, range(len(images)), **settings | changes)


def points(some):
    return [image.points for image in some.images]


@pytest.fixture(scope="module")
def sam():
    return elastic()


@pytest.fixture
def answering(monkeypatch):
    """Make the decoder answer given masks and predicted IoU, image after image."""

    def answer(masks, predicted):
        queue = [torch.from_numpy(np.stack(some)) for some in masks]

        def decode(sam, embedding, point):
            large = queue.pop(0).float()
            small = 2 * large[..., ::2, ::2] - 1
            single = torch.zeros_like(small[:, :1])
            iou = torch.tensor([0.0, *predicted]).expand(len(small), 4)
            return torch.cat([single, small], dim=1)[None], iou[None]

        monkeypatch.setattr(evaluate_module, "decode", decode)

    return answer


def candidates(eval_set, right=0, others=False):
    """Three masks an object: the truth at place `right`, `others` everywhere else."""
    masks = []
    for image in eval_set.images:
        truth = image.prepared.masks_NSS
        wrong = np.full_like(truth, others)
        masks.append(np.stack([truth if place == right else wrong for place in range(3)], axis=1))
    return masks


def test_perfect_masks_score_one(sam, answering):
    eval_set = rectangles_set()
    answering(candidates(eval_set, right=1), predicted=(0.1, 0.9, 0.2))

    scores = evaluate(sam, sam.image_encoder, eval_set)

    assert (scores.miou_oracle, scores.miou_chosen) == (1, 1)
    assert (scores.objects, scores.images) == (13, 6)


def test_the_chosen_mask_is_that_of_the_highest_predicted_iou(sam, answering):
    eval_set = rectangles_set()
    answering(candidates(eval_set, right=1), predicted=(0.1, 0.8, 0.9))

    scores = evaluate(sam, sam.image_encoder, eval_set)

    assert (scores.miou_oracle, scores.miou_chosen) == (1, 0)


def test_every_object_counts_the_same(sam, answering):
    eval_set = rectangles_set(Rectangles(objects=(1, 3)))
    masks = candidates(eval_set)
    masks[1][:] = False
    answering(masks, predicted=(0.9, 0.1, 0.1))

    assert evaluate(sam, sam.image_encoder, eval_set).miou_oracle == pytest.approx(1 / 4)


def test_padding_is_left_out(sam, answering):
    eval_set = rectangles_set(Rectangles(size=(20, 32)))
    masks = candidates(eval_set)
    for some in masks:
        some[..., 20:, :] = True
    answering(masks, predicted=(0.9, 0.1, 0.1))

    assert evaluate(sam, sam.image_encoder, eval_set).miou_chosen == 1


def test_the_best_of_three_is_never_worse_than_the_chosen_mask(sam):
    for seed in range(3):
        scores = evaluate(sam, sam.image_encoder, rectangles_set(Rectangles(seed=seed)))

        assert 0 <= scores.miou_chosen <= scores.miou_oracle <= 1


def test_the_same_set_gives_the_same_figures(sam):
    eval_set = rectangles_set()

    assert evaluate(sam, sam.image_encoder, eval_set) == evaluate(sam, sam.image_encoder, eval_set)
    assert evaluate(sam, sam.image_encoder, rectangles_set()) == evaluate(sam, sam.image_encoder, eval_set)


def test_figures_do_not_depend_on_the_batch(sam):
    together, apart = (evaluate(sam, sam.image_encoder, rectangles_set(), batch=batch) for batch in (8, 1))

    assert together.miou_oracle == pytest.approx(apart.miou_oracle, abs=1e-3)


def test_prompts_are_frozen_by_image_and_seed():
    once, again, other = rectangles_set(), rectangles_set(), rectangles_set(seed=8)

    assert all(np.array_equal(*pair) for pair in zip(points(once), points(again), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(points(once), points(other), strict=True))


def test_prompts_of_an_image_do_not_depend_on_the_others():
    images = Rectangles()
    alone = EvalSet.of(images, [3], image_px=SIDE, seed=7)

    assert np.array_equal(points(alone)[0], points(rectangles_set())[3])
    expected = prompts.points(alone.images[0].prepared.masks_NSS, image=images.names[3], seed=7)
    assert np.array_equal(points(alone)[0], expected)


def test_the_number_of_objects_per_image_is_limited():
    assert [len(some) for some in points(rectangles_set(max_objects=2))] == [2, 1, 2, 2, 2, 1]


def test_more_points_per_object_follow_the_first_ones():
    once, thrice = rectangles_set().images, rectangles_set(points=3).images

    for few, many in zip(once, thrice, strict=True):
        count = len(few.points)
        assert np.array_equal(many.points[:count], few.points)
        assert len({tuple(point) for point in many.points}) > count
        for place, (x, y) in enumerate(many.points.astype(int)):
            assert few.prepared.masks_NSS[place % count, y, x]
            assert np.array_equal(many.prepared.masks_NSS[place], few.prepared.masks_NSS[place % count])


def test_images_without_an_object_are_left_out():
    eval_set = rectangles_set(Rectangles(objects=(0, 2, 0, 1)))

    assert [image.prepared.name[-1] for image in eval_set.images] == ["1", "3"]
    assert len(eval_set) == 2


def test_a_set_without_any_object_is_refused():
    with pytest.raises(UsageError, match="none of the 2 images can be read and has an object: check their truth"):
        rectangles_set(Rectangles(objects=(0, 0)))


def test_batches_hold_normalised_images_in_order(sam):
    eval_set = rectangles_set(Rectangles(size=(20, 32)))

    found = list(image_batches(sam, eval_set, batch=4))

    assert [len(images) for images, _ in found] == [4, 2]
    assert [image.prepared.name for _, some in found for image in some] == list(Rectangles().names)
    assert all(not images[:, :, 20:].any() for images, _ in found)
    assert all(images.abs().max() < 3 for images, _ in found)


def test_candidate_masks_have_the_size_of_the_image_without_padding(sam):
    eval_set = rectangles_set(Rectangles(size=(20, 32)))
    embedding = sam.image_encoder(torch.zeros(1, 3, SIDE, SIDE))[0]

    masks, predicted = candidate_masks(sam, embedding.detach(), eval_set.images[0])

    assert masks.shape == (2, 3, 20, 32)
    assert masks.dtype == torch.bool
    assert predicted.shape == (2, 3)


def test_scores_are_plain_numbers(sam):
    figures = dataclasses.asdict(evaluate(sam, sam.image_encoder, rectangles_set(Rectangles(objects=(1,)))))

    assert {name: type(value) for name, value in figures.items()} == {
        "miou_oracle": float,
        "miou_chosen": float,
        "objects": int,
        "images": int,
    }


def test_scores_do_not_depend_on_the_order_of_the_images(sam):
    evaluator, subnet = Evaluator(sam, rectangles_set()), full_subnet(TINY)

    assert evaluator.score(subnet, [5, 3, 1, 4, 0, 2]).mean == evaluator.score(subnet).mean


def test_the_score_of_an_image_does_not_depend_on_the_other_images(sam):
    evaluator = Evaluator(sam, rectangles_set())
    whole = evaluator.score(full_subnet(TINY))

    assert all(evaluator.score(full_subnet(TINY), [place]).of == {place: whole.of[place]} for place in range(6))


def test_an_evaluator_and_a_plain_evaluation_agree(sam):
    eval_set = rectangles_set(Rectangles(size=(20, 32)))
    scores = Evaluator(sam, eval_set).score(full_subnet(TINY)).mean

    expected = evaluate(sam, sam.image_encoder, eval_set)
    assert dataclasses.astuple(scores) == pytest.approx(dataclasses.astuple(expected), abs=1e-3)


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 6], "indices hold 6; give different ones from 0 to 5"), ([-1], "hold -1"), ([2, 2], "hold an index twice")],
)
def test_indices_outside_of_the_set_are_refused(sam, indices, message):
    with pytest.raises(ValueError, match=message):
        Evaluator(sam, rectangles_set()).score(full_subnet(TINY), indices)


@pytest.mark.parametrize(("name", "batch"), [("vit_mini", 4), ("vit_b", 1), ("vit_h", 1)])
def test_small_images_run_together(name, batch):
    assert batch_size(SHAPES[name], torch.device("cpu")) == batch


def test_a_mean_weights_every_object_alike():
    one, three = ImageScore(objects=1, oracle=1.0, chosen=0.5), ImageScore(objects=3, oracle=0.6, chosen=0.3)

    mean = ScoreSet(of={0: one, 7: three}).mean

    assert (mean.miou_oracle, mean.miou_chosen) == pytest.approx((0.4, 0.2))
    assert (mean.objects, mean.images) == (4, 2)


def test_no_scores_have_no_mean():
    with pytest.raises(ValueError, match="no image has a score"):
        _ = ScoreSet(of={}).mean
