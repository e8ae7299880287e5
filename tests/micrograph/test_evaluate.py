import numpy as np
import pytest
from micrograph_world import box, record, two_materials

from quatrain.micrograph import boost
from quatrain.micrograph.evaluate import (
    boundary_f1,
    difficulty,
    interval,
    label_ious,
    match,
    precision_recall,
    regions,
    score,
)


def test_matching_is_one_to_one_and_an_unmatched_material_counts_nothing():
    ious = np.array([[0.9, 0.8], [0.7, 0.1], [0.0, 0.0]])

    mean, wrong = match(ious)

    assert mean == pytest.approx((0.8 + 0.7) / 2)
    assert wrong == 1
    assert match(np.array([[0.9, 0.2]]))[0] == pytest.approx(0.45)


def test_a_match_below_one_half_is_a_false_positive():
    assert match(np.array([[0.49]]))[1] == 1
    assert match(np.array([[0.5]]))[1] == 0


def test_no_masks_score_nothing():
    assert match(np.zeros((0, 3))) == (0.0, 0)


def test_label_ious_leave_out_what_has_no_truth():
    truth = np.array([[1, 1, 2, 0]])
    labels = np.array([[1, 2, 2, 1]])

    assert label_ious(labels, truth, 2).tolist() == [[0.5, 0], [1 / 3, 0.5]]


def test_every_step_is_scored():
    image, truth, masks = two_materials()

    found = score(boost(image, masks, k=2), image, truth)

    steps = {step["step"]: step for step in found["ablation"]}
    assert next(iter(steps)) == "raw"
    assert list(steps)[-1] == "merging"
    assert steps["raw"]["masks"] == 5
    assert steps["raw"]["fp"] == 3
    assert steps["merging"]["fp"] == 0
    assert steps["merging"]["mean_iou"] > steps["raw"]["mean_iou"]
    assert steps["raw"]["best_iou"] >= steps["raw"]["mean_iou"]
    assert found["ari"] > 0.9
    assert found["boundary_f1"] > 0.9
    assert found["truth_materials"] == 2


def test_raw_masks_are_scored_by_their_pixels():
    truth = np.where(box((40, 40), 0, 0, 40, 20), 1, 2)
    half = record(box((40, 40), 0, 0, 20, 20))
    image = np.arange(1600, dtype=np.uint8).reshape(40, 40)

    raw = score(boost(image, [half], k=1), image, truth)["ablation"][0]

    assert raw["best_iou"] == pytest.approx(0.25)
    assert raw["mean_iou"] == pytest.approx(0.25)
    assert raw["fp_share"] == 0


def test_two_near_equal_masks_cannot_match_two_materials_of_the_painted_map():
    truth = np.where(box((40, 40), 0, 0, 40, 20), 1, 2)
    whole = [record(np.ones((40, 40), bool)), record(box((40, 40), 0, 0, 40, 39))]
    image = np.arange(1600, dtype=np.uint8).reshape(40, 40)

    raw = score(boost(image, whole, k=1), image, truth)["ablation"][0]

    assert raw["mean_iou"] == pytest.approx((20 / 39 + 0.5) / 2)
    assert raw["painted_iou"] == pytest.approx((20 / 39 + 1 / 20) / 2)


def test_without_masks_false_positives_and_precision_are_undefined():
    truth = np.where(box((40, 40), 0, 0, 40, 20), 1, 2)
    image = np.arange(1600, dtype=np.uint8).reshape(40, 40)

    raw = score(boost(image, [], k=1), image, truth)["ablation"][0]

    assert (raw["masks"], raw["fp_share"], raw["precision"]) == (0, None, None)
    assert (raw["mean_iou"], raw["recall"]) == (0, 0)


def test_regions_are_connected_and_large_enough():
    labels = np.zeros((40, 60), int)
    labels[:10, :10] = labels[:10, 20:30] = 1
    labels[20:30, :10] = 2
    labels[30:34, :10] = 1

    found = regions(labels)

    assert found.count == 3
    assert sorted(found.area[1:].tolist()) == [100, 100, 100]
    assert found.region_HW[31, 5] == 0


def test_precision_and_recall_match_regions_one_to_one():
    ious = [{1: 0.9}, {1: 0.6}, {2: 0.4}, {}]

    assert precision_recall(ious, 3) == {"precision": 1 / 4, "recall": 1 / 3}
    assert precision_recall([{1: 0.6, 2: 0.7}, {1: 0.8}], 2) == {"precision": 1.0, "recall": 1.0}
    assert precision_recall([], 2) == {"precision": None, "recall": 0.0}


def test_a_split_region_costs_precision_even_though_its_material_is_right():
    truth = np.where(box((60, 60), 0, 0, 60, 30), 1, 2)
    image, half = np.arange(3600, dtype=np.uint8).reshape(60, 60), box((60, 60), 0, 0, 29, 30)
    masks = [record(one) for one in (half, box((60, 60), 31, 0, 60, 30), ~box((60, 60), 0, 0, 60, 30))]

    raw = score(boost(image, masks, k=2), image, truth)["ablation"][0]

    assert raw["precision"] == pytest.approx(1 / 3)
    assert raw["recall"] == pytest.approx(1 / 2)


def test_boundaries_two_pixels_off_are_right_and_five_are_not():
    truth = np.where(box((60, 60), 0, 0, 60, 30), 1, 2)

    near, far = (np.where(box((60, 60), 0, 0, 60, 30 + by), 1, 2) for by in (2, 5))

    assert boundary_f1(truth, truth) == 1
    assert boundary_f1(near, truth) == 1
    assert boundary_f1(far, truth) == 0
    assert boundary_f1(np.ones_like(truth), truth) == 0


@pytest.mark.parametrize(("step", "kind"), [(60, "easy"), (15, "medium"), (3, "hard")])
def test_difficulty_is_measured_by_contrast_and_noise(step, kind):
    truth = np.where(box((90, 90), 0, 0, 90, 45), 1, 2)
    noise = 10 * np.random.default_rng(0).standard_normal((90, 90))
    image = np.clip(100 + step * (truth == 2) + noise, 0, 255).astype(np.uint8)

    found = difficulty(image, truth, 6)

    assert found["difficulty"] == kind
    assert found["contrast_to_noise"] == pytest.approx(step / 10, abs=0.1)
    assert found["masks_per_region"] == 3


def test_one_material_alone_has_no_contrast():
    assert difficulty(np.zeros((9, 9), np.uint8), np.ones((9, 9), int), 1)["contrast_to_noise"] is None


def test_the_interval_holds_the_mean_and_narrows_with_more_images():
    values = np.random.default_rng(0).random(200).tolist()

    low, high = interval(values, 0)
    few = interval(values[:10], 0)

    assert low < np.mean(values) < high
    assert high - low < few[1] - few[0]
    assert interval([0.5], 0) == (0.5, 0.5)
