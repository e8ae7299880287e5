from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain import compat
from quatrain.data.rle import Rle
from quatrain.sam.automatic.tiling import Frame, MaskCandidate, crops, near_inner_edge, stitch, tiles


@given(st.integers(40, 300), st.integers(40, 300), st.integers(0, 2))
def test_crops_are_those_of_segment_anything(rows, columns, layers):
    compat.torchvision_ops()
    from segment_anything.utils.amg import generate_crop_boxes

    boxes, layer_of = generate_crop_boxes((rows, columns), layers, 512 / 1500)

    frames = crops((rows, columns), layers, 512 / 1500)

    assert [[f.x, f.y, f.x + f.width, f.y + f.height] for f in frames] == boxes
    assert [f.layer for f in frames] == layer_of


def test_a_single_pixel_has_no_empty_crops():
    assert all(frame.area for frame in crops((1, 1), 2, 0.3))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(20, 90), st.integers(0, 19))
def test_tiles_cover_every_pixel_and_share_the_overlap(rows, columns, tile, overlap):
    frames = tiles((rows, columns), tile, overlap)

    seen = np.zeros((rows, columns), int)
    for f in frames:
        assert f.width <= tile
        assert f.height <= tile
        seen[f.y : f.y + f.height, f.x : f.x + f.width] += 1
    assert seen.min() >= 1
    lefts = sorted({f.x for f in frames})
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(lefts))


@pytest.mark.parametrize(
    ("box", "near"),
    [((30, 30, 60, 60), False), ((5, 30, 60, 60), True), ((30, 30, 95, 60), False), ((30, 3, 60, 60), False)],
)
def test_a_box_is_cut_off_at_edges_inside_the_image_only(box, near):
    frame = Frame(x=100, y=0, width=100, height=100, layer=1, image=(300, 200))

    assert near_inner_edge(box, frame) == near


def _tiled(truth_HW, frames, smallest=1, label=1):
    """What a perfect model finds of one object in every tile."""
    found = []
    for frame in frames:
        part = truth_HW[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width] == label
        runs = Rle.from_mask(part.T).shifted(frame.x, frame.y)
        one = MaskCandidate(runs=runs, iou=0.9, stability=0.95, point=(frame.x, frame.y), frame=frame)
        found.append([one] if part.sum() >= smallest else [])
    return found


def test_an_object_over_many_tiles_becomes_one_mask():
    truth = np.zeros((150, 200), int)
    truth[20:140, 10:190] = 1
    frames = tiles(truth.shape, 80, 24)

    (one,) = stitch(_tiled(truth, frames), frames)

    assert (one.runs.mask(*truth.shape) == (truth == 1)).all()
    assert one.iou == pytest.approx(0.9)


def test_an_object_within_the_overlap_is_found_once():
    truth = np.zeros((80, 140), int)
    truth[30:40, 65:75] = 1
    frames = tiles(truth.shape, 80, 24)

    assert len(stitch(_tiled(truth, frames), frames)) == 1


def test_neighbouring_objects_stay_apart():
    truth = np.zeros((80, 140), int)
    truth[:40] = 1
    truth[40:] = 2
    frames = tiles(truth.shape, 80, 24)
    both = [a + b for a, b in zip(_tiled(truth, frames), _tiled(truth, frames, label=2), strict=True)]

    joined = stitch(both, frames)

    assert sorted(one.runs.area for one in joined) == [40 * 140, 40 * 140]


def test_a_part_is_not_united_with_the_whole_it_belongs_to():
    truth = np.zeros((80, 140), int)
    truth[:, :] = 1
    part = truth.copy()
    part[:, :] = 0
    part[30:50, 62:78] = 1
    frames = tiles(truth.shape, 80, 24)
    both = [a + b for a, b in zip(_tiled(truth, frames), _tiled(part, frames), strict=True)]

    joined = stitch(both, frames)

    assert sorted(one.runs.area for one in joined) == [20 * 16, 80 * 140]
