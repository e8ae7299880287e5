from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from quatrain.data.coco import coco_images
from quatrain.errors import UsageError

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]


def image(number, name, **more):
    return {"id": number, "file_name": name, "height": 20, "width": 30, **more}


def annotation(number, **more):
    return {"id": number * 100, "image_id": number, "iscrowd": 0, "segmentation": [SQUARE], **more}


def write(source, images, annotations, folder=None):
    """Write the JSON, and a picture for every well-formed image of it."""
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps({"images": images, "annotations": annotations}))
    for one in images:
        file = (folder or source.parent) / one["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(file)
    return source


def test_images_and_their_objects_are_read(tmp_path, capfd):
    smaller = [2, 2, 4, 2, 4, 4, 2, 4]
    source = write(
        tmp_path / "a.json",
        [image(1, "one.png"), image(2, "two.png")],
        [annotation(2), annotation(1), annotation(1, segmentation=[smaller], id=5)],
    )

    images = coco_images(source)

    assert images.names == ("one.png", "two.png")
    assert [int(mask.sum()) for mask in images.read(0).masks_NHW] == [100, 4]
    assert (images.read(1).image_HWC == 77).all()
    assert capfd.readouterr() == ("", "")


def test_crowds_are_left_out(tmp_path):
    crowd = annotation(1, iscrowd=1, segmentation={"size": [20, 30], "counts": [0, 600]})
    source = write(
        tmp_path / "a.json", [image(1, "one.png"), image(2, "two.png")], [annotation(1), crowd, crowd | {"image_id": 2}]
    )

    images = coco_images(source)

    assert len(images.read(0).masks_NHW) == 1
    assert [(one.name, one.reason) for one in images.skipped] == [("two.png", "it has no object but crowds")]


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("a.json", "."),
        ("a.json", "images"),
        ("annotations/a.json", "images"),
        ("instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
    ],
)
def test_images_are_found_in_the_usual_places(tmp_path, source, folder):
    write(tmp_path / source, [image(1, "one.jpg")], [annotation(1)], tmp_path / folder)

    assert coco_images(tmp_path / source).read(0).name == "one.jpg"


def test_images_can_lie_in_a_folder_that_is_given(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "sub/one.png")], [annotation(1)], tmp_path / "far away")

    assert coco_images(source, tmp_path / "far away").read(0).name == "sub/one.png"


def test_missing_images_and_damaged_entries_are_skipped_with_the_reason(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png"), image(2, "gone.png")], [annotation(1), annotation(2)])
    content = json.loads(source.read_text())
    content["images"] += [7, {"id": 3}, image(4, "../four.png"), image(5, "/etc/five.png"), image(1, "again.png")]
    content["annotations"] += ["x", {"id": 9}, annotation(99)]
    source.write_text(json.dumps(content))
    (tmp_path / "gone.png").unlink()

    images = coco_images(source)

    reasons = {one.name: one.reason for one in images.skipped}
    assert images.names == ("one.png",)
    assert reasons == {
        "image entry 2": "it has no id or no file_name",
        "image entry 3": "it has no id or no file_name",
        "../four.png": "its file name leads out of the folder",
        "/etc/five.png": "its file name leads out of the folder",
        "again.png": "its id or file name comes twice",
        "annotation entry 2": "it has no image_id",
        "annotation entry 3": "it has no image_id",
        "gone.png": f"there is no such file in {str(tmp_path)!r}",
    }


def test_images_that_are_nowhere_are_an_error_that_says_where_they_were_sought(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1)], tmp_path / "elsewhere")

    with pytest.raises(UsageError, match=r"such as \['one.png'\], are in none of .*images"):
        coco_images(source)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds a list, not annotations"),
        ('{"images": []}', "needs the lists"),
        ('{"images": 3, "annotations": []}', "needs the lists"),
        ('{"images": [], "annotations": []}', r"a\.json"),
    ],
)
def test_a_json_that_holds_no_instances_is_named(tmp_path, content, reason):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match=reason):
        coco_images(tmp_path / "a.json")


def test_a_json_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"a\.json' cannot be used: No such file"):
        coco_images(tmp_path / "a.json")


def test_a_json_without_any_object_is_an_error(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [])

    with pytest.raises(UsageError, match=r"1 skipped: one\.png: it has no object but crowds"):
        coco_images(source)


def test_a_segmentation_that_is_damaged_is_named_when_it_is_read(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1, segmentation=[[1, 2]])])

    with pytest.raises(UsageError, match=r"a\.json' does not fit 'one\.png': .* annotation 100 is damaged"):
        coco_images(source).read(0)


def test_an_image_that_is_damaged_is_named_when_it_is_read(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1)])
    (tmp_path / "one.png").write_bytes(b"torn")

    with pytest.raises(UsageError, match=r"one\.png' cannot be used: it is not an image"):
        coco_images(source).read(0)


def test_an_image_of_another_size_than_its_runs_is_named(tmp_path):
    source = write(
        tmp_path / "a.json",
        [image(1, "one.png")],
        [annotation(1, segmentation={"size": [30, 20], "counts": [0, 600]})],
    )

    with pytest.raises(UsageError, match="it is for 20 x 30 pixels, the image has 30 x 20"):
        coco_images(source).read(0)
