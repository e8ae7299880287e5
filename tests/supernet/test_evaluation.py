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
from quatrain.supernet.evaluation import Exam, Examiner, batch_size, candidate_masks, evaluate, image_batches

SIDE = TINY.image_px


def exam(images=None, **changes):
    images = images or Rectangles()
    settings = {"image_px": SIDE, "seed": 7}
    return Exam.of(images, range(len(images)), **settings | changes)


def points(some):
    return [question.points for question in some.questions]


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


def candidates(questions, right=0, others=False):
    """Three masks an object: the truth at place `right`, `others` everywhere else."""
    masks = []
    for question in questions.questions:
        truth = question.prepared.masks_NSS
        wrong = np.full_like(truth, others)
        masks.append(np.stack([truth if place == right else wrong for place in range(3)], axis=1))
    return masks


def test_perfect_masks_score_one(sam, answering):
    questions = exam()
    answering(candidates(questions, right=1), predicted=(0.1, 0.9, 0.2))

    scores = evaluate(sam, sam.image_encoder, questions)

    assert (scores.miou_oracle, scores.miou_chosen) == (1, 1)
    assert (scores.objects, scores.images) == (13, 6)


def test_the_chosen_mask_is_that_of_the_highest_predicted_iou(sam, answering):
    questions = exam()
    answering(candidates(questions, right=1), predicted=(0.1, 0.8, 0.9))

    scores = evaluate(sam, sam.image_encoder, questions)

    assert (scores.miou_oracle, scores.miou_chosen) == (1, 0)


def test_every_object_counts_the_same(sam, answering):
    questions = exam(Rectangles(objects=(1, 3)))
    masks = candidates(questions)
    masks[1][:] = False
    answering(masks, predicted=(0.9, 0.1, 0.1))

    assert evaluate(sam, sam.image_encoder, questions).miou_oracle == pytest.approx(1 / 4)


def test_padding_is_left_out(sam, answering):
    questions = exam(Rectangles(size=(20, 32)))
    masks = candidates(questions)
    for some in masks:
        some[..., 20:, :] = True
    answering(masks, predicted=(0.9, 0.1, 0.1))

    assert evaluate(sam, sam.image_encoder, questions).miou_chosen == 1


def test_the_best_of_three_is_never_worse_than_the_chosen_mask(sam):
    for seed in range(3):
        scores = evaluate(sam, sam.image_encoder, exam(Rectangles(seed=seed)))

        assert 0 <= scores.miou_chosen <= scores.miou_oracle <= 1


def test_the_same_exam_gives_the_same_figures(sam):
    questions = exam()

    assert evaluate(sam, sam.image_encoder, questions) == evaluate(sam, sam.image_encoder, questions)
    assert evaluate(sam, sam.image_encoder, exam()) == evaluate(sam, sam.image_encoder, questions)


def test_figures_do_not_depend_on_the_batch(sam):
    together, apart = (evaluate(sam, sam.image_encoder, exam(), batch=batch) for batch in (8, 1))

    assert together.miou_oracle == pytest.approx(apart.miou_oracle, abs=1e-3)


def test_prompts_are_frozen_by_image_and_seed():
    once, again, other = exam(), exam(), exam(seed=8)

    assert all(np.array_equal(*pair) for pair in zip(points(once), points(again), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(points(once), points(other), strict=True))


def test_prompts_of_an_image_do_not_depend_on_the_others():
    images = Rectangles()
    alone = Exam.of(images, [3], image_px=SIDE, seed=7)

    assert np.array_equal(points(alone)[0], points(exam())[3])
    expected = prompts.points(alone.questions[0].prepared.masks_NSS, image=images.names[3], seed=7)
    assert np.array_equal(points(alone)[0], expected)


def test_at_most_so_many_objects_are_asked_for():
    assert [len(some) for some in points(exam(max_objects=2))] == [2, 1, 2, 2, 2, 1]


def test_more_points_an_object_come_after_the_first_ones():
    once, thrice = exam().questions, exam(points=3).questions

    for few, many in zip(once, thrice, strict=True):
        count = len(few.points)
        assert np.array_equal(many.points[:count], few.points)
        assert len({tuple(point) for point in many.points}) > count
        for place, (x, y) in enumerate(many.points.astype(int)):
            assert few.prepared.masks_NSS[place % count, y, x]
            assert np.array_equal(many.prepared.masks_NSS[place], few.prepared.masks_NSS[place % count])


def test_images_without_an_object_are_left_out():
    questions = exam(Rectangles(objects=(0, 2, 0, 1)))

    assert [question.prepared.name[-1] for question in questions.questions] == ["1", "3"]
    assert len(questions) == 2


def test_an_exam_without_any_object_is_refused():
    with pytest.raises(UsageError, match="none of the 2 images can be read and has an object: check their truth"):
        exam(Rectangles(objects=(0, 0)))


def test_batches_hold_normalised_images_in_order(sam):
    questions = exam(Rectangles(size=(20, 32)))

    found = list(image_batches(sam, questions, batch=4))

    assert [len(images) for images, _ in found] == [4, 2]
    assert [question.prepared.name for _, some in found for question in some] == list(Rectangles().names)
    assert all(not images[:, :, 20:].any() for images, _ in found)
    assert all(images.abs().max() < 3 for images, _ in found)


def test_candidate_masks_have_the_size_of_the_image_without_padding(sam):
    questions = exam(Rectangles(size=(20, 32)))
    embedding = sam.image_encoder(torch.zeros(1, 3, SIDE, SIDE))[0]

    masks, predicted = candidate_masks(sam, embedding.detach(), questions.questions[0])

    assert masks.shape == (2, 3, 20, 32)
    assert masks.dtype == torch.bool
    assert predicted.shape == (2, 3)


def test_scores_are_plain_numbers(sam):
    figures = dataclasses.asdict(evaluate(sam, sam.image_encoder, exam(Rectangles(objects=(1,)))))

    assert {name: type(value) for name, value in figures.items()} == {
        "miou_oracle": float,
        "miou_chosen": float,
        "objects": int,
        "images": int,
    }


def test_rungs_add_up_to_the_whole_exam_to_the_bit(sam):
    questions, subnet = exam(), full_subnet(TINY)
    examiner = Examiner(sam, questions)

    rungs = examiner.mark(subnet, [4]) + examiner.mark(subnet, [0, 2]) + examiner.mark(subnet, [5, 3, 1])

    assert rungs == examiner.mark(subnet)
    assert rungs.scores == examiner.mark(subnet).scores


def test_an_image_is_marked_alike_whatever_else_is_asked(sam):
    examiner = Examiner(sam, exam())
    whole = examiner.mark(full_subnet(TINY))

    assert all(examiner.mark(full_subnet(TINY), [place]).of == {place: whole.of[place]} for place in range(6))


def test_an_examiner_and_a_plain_evaluation_agree(sam):
    questions = exam(Rectangles(size=(20, 32)))
    scores = Examiner(sam, questions).mark(full_subnet(TINY)).scores

    expected = evaluate(sam, sam.image_encoder, questions)
    assert dataclasses.astuple(scores) == pytest.approx(dataclasses.astuple(expected), abs=1e-3)


@pytest.mark.parametrize(
    ("places", "message"),
    [([0, 6], "places holds 6; give different ones from 0 to 5"), ([-1], "holds -1"), ([2, 2], "holds a place twice")],
)
def test_places_that_the_exam_does_not_have_are_refused(sam, places, message):
    with pytest.raises(ValueError, match=message):
        Examiner(sam, exam()).mark(full_subnet(TINY), places)


@pytest.mark.parametrize(("name", "batch"), [("vit_mini", 4), ("vit_b", 1), ("vit_h", 1)])
def test_small_images_run_together(name, batch):
    assert batch_size(SHAPES[name], torch.device("cpu")) == batch
