from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from quatrain.data.check import check_images
from quatrain.errors import UsageError

GREY = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)


@pytest.fixture
def folder(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, metadata={"unit": "nm"}, resolution=(2.0, 2.0))
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "b.png")
    Image.fromarray((GREY % 2).astype(np.uint8)).save(tmp_path / "b_truth.png")
    return tmp_path


def test_every_file_is_listed_with_size_type_range_and_truth(folder):
    found = {file["path"]: file for file in check_images(folder).as_json()["files"]}

    assert found["a.tif"]["images"][0]["shape"] == [32, 40]
    assert found["a.tif"]["images"][0]["dtype"] == "uint16"
    assert (found["a.tif"]["images"][0]["min"], found["a.tif"]["images"][0]["max"]) == (0, 1279)
    assert found["a.tif"]["images"][0]["pixel_size_nm"] == [0.5, 0.5]
    assert found["a.tif"]["truth"] is None
    assert found["b.png"]["truth"] == "b_truth.png"
    assert found["b.png"]["images"][0]["pixel_size_nm"] is None


def test_a_damaged_file_costs_itself_alone(folder):
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    found = check_images(folder)

    assert found.error is None
    assert found.warning_count == 1
    assert [file.path for file in found.files if file.error] == ["c.png"]


def test_a_folder_without_images_cannot_be_used(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")

    assert "no image" in check_images(tmp_path).error


def test_for_nas_an_image_without_truth_is_a_warning(folder):
    found = check_images(folder, "nas")

    assert found.error is None
    assert [warning for warning in found.warnings if warning.startswith("a.tif")]


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        check_images(tmp_path / "absent")


def test_the_check_is_json(folder):
    assert json.loads(json.dumps(check_images(folder).as_json()))["summary"]["files"] == 3
