from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image

from quatrain.data.coco import CocoImages
from quatrain.data.folder import FolderImages
from quatrain.data.open import LAYOUTS, open_images
from quatrain.data.sa1b import Sa1bImages
from quatrain.data.stack import StackImages
from quatrain.data.synthetic import SyntheticImages
from quatrain.data.textures import SEEN, UNSEEN
from quatrain.errors import UsageError

opened = partial(open_images, size_px=64, seed=3)
GREY = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
LABELS = (GREY > 100).astype(np.uint8)


def folder(at):
    Image.fromarray(GREY).save(at / "a.png")
    Image.fromarray(LABELS).save(at / "a_truth.png")


def stack(at):
    for name, page in (("a.tif", GREY), ("a_groundtruth.tif", LABELS)):
        tifffile.imwrite(at / name, np.stack([page] * 3), photometric="minisblack")


def sa1b(at):
    Image.fromarray(GREY).save(at / "sa_1.jpg")
    annotation = {"segmentation": {"size": [20, 30], "counts": [100, 500]}}
    (at / "sa_1.json").write_text(json.dumps({"annotations": [annotation]}))


def coco(at, name="instances_val2017.json"):
    (at / "annotations").mkdir()
    (at / "val2017").mkdir()
    Image.fromarray(GREY).save(at / "val2017" / "1.jpg")
    annotation = {"image_id": 1, "segmentation": {"size": [20, 30], "counts": [100, 500]}}
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [annotation]}
    (at / "annotations" / name).write_text(json.dumps(content))


MAKERS = {"folder": (folder, FolderImages), "stack": (stack, StackImages), "sa1b": (sa1b, Sa1bImages)}
MAKERS["coco"] = (coco, CocoImages)


def test_every_layout_has_a_maker_here():
    assert MAKERS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("named", [False, True])
def test_the_layout_of_a_folder_is_found_out_or_taken_as_named(tmp_path, layout, named):
    make, kind = MAKERS[layout]
    make(tmp_path)

    images = opened(str(tmp_path), layout=layout if named else None)

    assert isinstance(images, kind)
    assert len(set(images.names)) == len(images)
    assert len(images.read(0).masks_NHW) >= 1
    assert images.read(0).name == images.names[0]


def test_a_json_is_coco_and_a_tiff_a_stack(tmp_path):
    stack(tmp_path)
    coco(tmp_path)

    assert isinstance(opened(str(tmp_path / "a.tif")), StackImages)
    assert isinstance(opened(str(tmp_path / "annotations" / "instances_val2017.json")), CocoImages)


def test_a_folder_of_deep_pairs_in_tiff_is_a_folder_not_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16))
    tifffile.imwrite(tmp_path / "a_truth.tif", LABELS)

    assert opened(str(tmp_path)).names == ("a",)


@pytest.mark.parametrize(
    ("source", "materials"),
    [
        ("made", SEEN),
        ("made:seen", SEEN),
        ("made:unseen", UNSEEN),
        (f"made:{UNSEEN[1]}, {SEEN[0]}", (UNSEEN[1], SEEN[0])),
    ],
)
def test_synthetic_images_have_the_named_materials(source, materials):
    how = {"alike": 1.0, "specimen": True} if source == "made:unseen" else {}

    assert opened(source, count=5) == SyntheticImages(count=5, size_px=64, seed=3, materials=materials, **how)


def test_a_material_that_does_not_exist_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="there is no material 'unsen': did you mean 'unseen'"):
        opened("made:unsen")


def test_one_material_is_too_few():
    with pytest.raises(UsageError, match=f"'made:{SEEN[0]}' names one material: name two or more"):
        opened(f"made:{SEEN[0]}")


def test_a_layout_that_does_not_exist_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="there is no layout 'foldr': did you mean 'folder'"):
        opened(str(tmp_path), layout="foldr")


def test_a_path_that_does_not_exist_is_named_with_the_layouts_known(tmp_path):
    with pytest.raises(UsageError) as caught:
        opened(str(tmp_path / "nowhere"))

    assert "nowhere" in str(caught.value)
    assert all(what in str(caught.value) for what in LAYOUTS.values())
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_named_with_the_layouts_known(tmp_path):
    with pytest.raises(UsageError, match=r"is empty: it must hold images NAME\.png"):
        opened(str(tmp_path))


@pytest.mark.parametrize("name", ["a.png", "notes.txt"])
def test_a_folder_or_file_that_fits_no_layout_is_named(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name, "PNG")

    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UsageError, match="fits no known layout"):
            opened(str(path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_that_does_not_fit_the_layout_named_is_an_error(tmp_path, layout):
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(UsageError, match=tmp_path.name):
        opened(str(tmp_path), layout=layout)


@pytest.mark.parametrize("layout", ["folder", "sa1b"])
def test_a_file_where_a_folder_is_needed_is_an_error(tmp_path, layout):
    folder(tmp_path)

    with pytest.raises(UsageError, match="is not a folder"):
        opened(str(tmp_path / "a.png"), layout=layout)


def test_several_coco_files_need_a_choice(tmp_path):
    coco(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text("{}")

    with pytest.raises(UsageError, match=r"instances_train2017\.json, .*give the path of one"):
        opened(str(tmp_path))


def test_captions_beside_instances_are_passed_over(tmp_path):
    coco(tmp_path)
    (tmp_path / "annotations" / "captions_val2017.json").write_text("{}")

    assert opened(str(tmp_path)).names == ("1.jpg",)
