from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from quatrain.data.sa1b import sa1b_images
from quatrain.errors import UsageError

MASK = np.zeros((20, 30), np.uint8, order="F")
MASK[4:10, 5:15] = 1


def write(folder, number, mask=MASK):
    Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(folder / f"sa_{number}.jpg")
    encoded = coco_mask.encode(mask)
    segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    content = {"image": {"image_id": number}, "annotations": [{"id": 7, "segmentation": segmentation}]}
    (folder / f"sa_{number}.json").write_text(json.dumps(content))


def test_every_image_is_read_with_its_own_json(tmp_path):
    for number in (12, 5):
        write(tmp_path, number)

    images = sa1b_images(tmp_path)

    assert images.names == ("sa_12", "sa_5")
    assert (images.read(0).masks_NHW == MASK.astype(bool)).all()
    assert images.read(1).image_HWC[0, 0, 0] == 5


def test_an_image_without_json_and_a_json_without_image_are_skipped(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, number)
    (tmp_path / "sa_1.jpg").unlink()
    (tmp_path / "sa_2.json").unlink()

    images = sa1b_images(tmp_path)

    assert images.names == ("sa_3",)
    assert {one.name: one.reason for one in images.skipped} == {
        "sa_1.json": "masks without their image",
        "sa_2.jpg": "there is no sa_2.json",
    }


def test_a_folder_without_a_pair_is_an_error(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "sa_1.json").unlink()

    with pytest.raises(UsageError, match=r"1 skipped: sa_1\.jpg: there is no sa_1\.json"):
        sa1b_images(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"annotations": [3]}',
        '{"annotations": {}}',
        '{"annotations": [{"id": 7}]}',
        "[3]",
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_damaged_json_is_named_when_it_is_read(tmp_path, content):
    write(tmp_path, 1)
    (tmp_path / "sa_1.json").write_text(content, encoding="latin1")

    with pytest.raises(UsageError, match=r"sa_1\.json' cannot be used: "):
        sa1b_images(tmp_path).read(0)


def test_masks_of_another_size_are_named(tmp_path):
    write(tmp_path, 1, np.asfortranarray(MASK.T))

    with pytest.raises(UsageError, match=r"sa_1\.json' cannot be used: .*annotation 7: .*20 x 30 pixels"):
        sa1b_images(tmp_path).read(0)


def test_a_damaged_image_is_named_when_it_is_read(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "sa_1.jpg").write_bytes(b"torn")

    with pytest.raises(UsageError, match=r"sa_1\.jpg' cannot be used: it is not an image"):
        sa1b_images(tmp_path).read(0)


def test_a_damaged_mask_costs_that_mask_alone(tmp_path):
    write(tmp_path, 1)
    content = json.loads((tmp_path / "sa_1.json").read_text())
    content["annotations"].append({"id": 8, "segmentation": {"size": [20, 30], "counts": "P"}})
    (tmp_path / "sa_1.json").write_text(json.dumps(content))

    sample = sa1b_images(tmp_path).read(0)

    assert (sample.masks_NHW == MASK.astype(bool)).all()
    assert [one.name for one in sample.skipped] == ["sa_1, annotation 8"]


def test_the_bare_list_that_amg_py_writes_is_read(tmp_path):
    write(tmp_path, 1)
    content = json.loads((tmp_path / "sa_1.json").read_text())
    (tmp_path / "sa_1.json").write_text(json.dumps(content["annotations"]))

    assert (sa1b_images(tmp_path).read(0).masks_NHW == MASK.astype(bool)).all()


def test_an_image_of_another_size_than_its_json_says_is_refused(tmp_path):
    write(tmp_path, 1)
    content = json.loads((tmp_path / "sa_1.json").read_text())
    content["image"] |= {"width": 60, "height": 40}
    (tmp_path / "sa_1.json").write_text(json.dumps(content))

    with pytest.raises(UsageError, match="the JSON says 60 x 40 pixels, the image has 30 x 20"):
        sa1b_images(tmp_path).read(0)


def test_names_are_not_cut_at_dots(tmp_path):
    for number, name in ((1, "a"), (2, "a.b")):
        write(tmp_path, number)
        (tmp_path / f"sa_{number}.jpg").rename(tmp_path / f"{name}.jpg")
        (tmp_path / f"sa_{number}.json").rename(tmp_path / f"{name}.JSON")

    images = sa1b_images(tmp_path)

    assert {name: int(images.read(at).image_HWC[0, 0, 0]) for at, name in enumerate(images.names)} == {"a": 1, "a.b": 2}
