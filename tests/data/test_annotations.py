from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from quatrain.data.annotations import check_size, json_hw, masks, read_json, text_of
from quatrain.data.rle import Rle, counts_of_text

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20))
GOOD = [[2, 2, 12, 2, 12, 12, 2, 12]]
POINTS = st.lists(st.tuples(st.floats(-30, 60), st.floats(-30, 60)), min_size=3, max_size=8)


def compressed(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def runs(mask):
    return {"segmentation": {"size": list(mask.shape), "counts": compressed(mask).decode()}, "id": 7}


def one_mask(annotation, height=20, width=30):
    """The mask of one annotation, whatever its size."""
    return Rle.from_counts(counts_of_text(text_of(annotation, height, width)), height).mask(height, width)


@given(MASKS)
def test_compressed_and_plain_run_lengths_are_the_mask_that_pycocotools_wrote(mask):
    counts = counts_of_text(compressed(mask)).tolist()
    plain = {"segmentation": {"size": list(mask.shape), "counts": counts}}

    assert (one_mask(runs(mask), *mask.shape) == mask).all()
    assert (one_mask(plain, *mask.shape) == mask).all()


@given(st.lists(POINTS, min_size=1, max_size=3))
def test_polygons_are_those_of_pycocotools_also_outside_of_the_image(rings):
    polygons = [[value for point in ring for value in point] for ring in rings]
    stock = coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30))

    assert text_of({"segmentation": polygons}, 20, 30) == stock["counts"]


def test_the_largest_objects_are_first_and_tiny_ones_are_left_out():
    small, large, tiny = np.zeros((3, 40, 40), bool)
    small[:4, :4], large[:20, :20], tiny[0, 0] = True, True, True

    masks_NHW, skipped = masks([runs(small), runs(tiny), runs(large)], 40, 40, "a.png")

    assert [int(mask.sum()) for mask in masks_NHW] == [400, 16]
    assert skipped == ()


def test_no_annotations_are_no_objects():
    assert masks([], 4, 5, "a.png")[0].shape == (0, 4, 5)


def test_a_polygon_that_is_not_nested_in_a_list_is_read():  # roboflow/supervision issue 205
    assert (one_mask({"segmentation": GOOD[0]}) == one_mask({"segmentation": GOOD})).all()


@pytest.mark.parametrize("stray", [[], [5, 5], [5, 5, 8, 9]])
def test_points_and_lines_beside_a_polygon_are_ignored(stray):  # cocodataset/cocoapi issue 348
    assert (one_mask({"segmentation": [stray, *GOOD]}) == one_mask({"segmentation": GOOD})).all()


RING = [[2, 2, 18, 2, 18, 18, 2, 18], [6, 6, 14, 6, 14, 14, 6, 14]]


@pytest.mark.parametrize(("area", "pixels"), [(None, 256), (256, 256), (256.0 + 64, 256), (192, 192), (190.5, 192)])
def test_a_ring_inside_another_is_a_hole_if_the_area_says_so(area, pixels):  # cocodataset/cocoapi issue 153
    annotation = {"segmentation": RING} | ({} if area is None else {"area": area})

    assert int(one_mask(annotation).sum()) == pixels


def test_a_hole_in_run_lengths_stays_a_hole():  # facebookresearch/segment-anything issue 195
    mask = np.zeros((20, 30), bool)
    mask[2:18, 2:18] = True
    mask[6:14, 6:14] = False

    assert int(one_mask(runs(mask)).sum()) == 192


def test_run_lengths_whose_text_has_backslashes_are_read(tmp_path):  # facebookresearch/segment-anything issue 222
    mask = np.random.default_rng(0).random((200, 300)) < np.linspace(0, 0.1, 300)
    assert b"\\" in compressed(mask)
    (tmp_path / "a.json").write_text(json.dumps(runs(mask)))

    assert (one_mask(read_json(tmp_path / "a.json"), 200, 300) == mask).all()


@pytest.mark.parametrize("bom", ["utf-8-sig", "utf-16"])
def test_json_with_a_byte_order_mark_is_read(tmp_path, bom):
    (tmp_path / "a.json").write_bytes('{"ä": NaN}'.encode(bom))

    assert list(read_json(tmp_path / "a.json")) == ["ä"]


DAMAGED = {
    "no segmentation": {},
    "null": {"segmentation": None},
    "number": {"segmentation": 7},
    "text": {"segmentation": "text"},
    "empty list": {"segmentation": []},
    "empty lists": {"segmentation": [[], []]},
    "box only": {"segmentation": [], "bbox": [1, 1, 5, 5]},
    "box without area": {"segmentation": [], "bbox": [1, 1, 0, 0]},
    "point": {"segmentation": [[1, 2]]},
    "line": {"segmentation": [[1, 2, 3, 4]]},
    "odd": {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    "nan": {"segmentation": [[1, 2, 3, 4, 5, float("nan")]]},
    "infinite": {"segmentation": [[1, 2, 3, 4, 5, float("inf")]]},
    "far": {"segmentation": [[-1e12, 5, 1e12, 5, 1e12, 1e12]]},
    "words": {"segmentation": [["a", "b", "c", "d", "e", "f"]]},
    "pairs": {"segmentation": [[[1, 2], [3, 4], [5, 6]]]},
    "outside": {"segmentation": [[90, 90, 99, 90, 99, 99]]},
    "empty object": {"segmentation": {}},
    "no counts": {"segmentation": {"size": [4, 5]}},
    "size is a number": {"segmentation": {"size": 4, "counts": [20]}},
    "size of one": {"segmentation": {"size": [4], "counts": [20]}},
    "size is turned": {"segmentation": {"size": [5, 4], "counts": [0, 20]}},
    "short": {"segmentation": {"size": [4, 5], "counts": [5, 5]}},
    "negative": {"segmentation": {"size": [4, 5], "counts": [30, -10]}},
    "fractions": {"segmentation": {"size": [4, 5], "counts": [0.5, 19.5]}},
    "not a number": {"segmentation": {"size": [4, 5], "counts": [float("nan"), 20]}},
    "nested": {"segmentation": {"size": [4, 5], "counts": [[20]]}},
    "no text": {"segmentation": {"size": [4, 5], "counts": None}},
    "empty text": {"segmentation": {"size": [4, 5], "counts": ""}},
    "control character": {"segmentation": {"size": [4, 5], "counts": "\x01"}},
    "umlaut": {"segmentation": {"size": [4, 5], "counts": "ö"}},
    "too long": {"segmentation": {"size": [4, 5], "counts": "oooooooooooooooooooooooo0"}},
    "cut off": {"segmentation": {"size": [4, 5], "counts": "P"}},
    "huge": {"segmentation": {"size": [4, 5], "counts": [2**70]}},
    "nothing inside": {"segmentation": {"size": [4, 5], "counts": [20]}},
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_annotation_costs_that_annotation_alone(damaged):
    good = {"id": 6, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]}

    masks_NHW, skipped = masks([good, {"id": 7, **damaged}], 4, 5, "a.png")

    assert [int(mask.sum()) for mask in masks_NHW] == [12]
    assert [one.name for one in skipped] == ["a.png, annotation 7"]
    assert len(skipped[0].reason.splitlines()) == 1


@pytest.mark.parametrize("entry", [3, "x", None, [1]])
def test_an_annotation_that_is_not_an_object_is_named_by_its_place(entry):
    with pytest.raises(ValueError, match=r"none of its 1 annotations can be used: annotation entry 0: it is a "):
        masks([entry], 4, 5, "a.png")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"height": 4, "width": 5}, (4, 5)),
        ({"height": 4.0, "width": "5"}, (4, 5)),
        ({"height": 0, "width": 5}, None),
        ({"height": float("nan"), "width": 5}, None),
        ({"height": None, "width": 5}, None),
        ({"width": 5}, None),
        (None, None),
    ],
)
def test_a_size_is_that_of_the_json_or_unknown(entry, expected):
    assert json_hw(entry) == expected


def test_a_size_that_differs_from_the_image_is_refused_with_both():
    check_size(None, (4, 5))
    check_size((4, 5), (4, 5))

    with pytest.raises(ValueError, match="the JSON says 10 x 8 pixels, the image has 5 x 4"):
        check_size((8, 10), (4, 5))
