from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from quatrain.data.folder import folder_images
from quatrain.errors import UsageError

LABELS = np.repeat(np.array([0, 1, 2], np.uint8), 10)[None].repeat(20, 0)
GREY = LABELS * 90 + 5


def write(folder, stem, image=GREY, truth=LABELS, suffix=".png"):
    Image.fromarray(image).save(folder / f"{stem}{suffix}")
    Image.fromarray(truth).save(folder / f"{stem}_truth.png")


def test_images_are_paired_with_their_truths_in_the_order_of_their_names(tmp_path):
    for stem in ("b", "a", "c"):
        write(tmp_path, stem)

    images = folder_images(tmp_path)

    assert images.names == ("a", "b", "c")
    assert len(images) == 3
    assert images.skipped == ()
    assert [int(mask.sum()) for mask in images.read(1).masks_NHW] == [200, 200]
    assert images.read(1).name == "b"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".PNG"])
def test_every_kind_of_image_file_is_read(tmp_path, suffix):
    write(tmp_path, "a", suffix=suffix)

    sample = folder_images(tmp_path).read(0)

    assert sample.image_HWC.shape == (20, 30, 3)
    assert abs(int(sample.image_HWC[10, 15, 0]) - 95) < 5


def test_colours_of_a_truth_are_labels_and_black_is_background(tmp_path):
    colours = np.array([[0, 0, 0], [250, 0, 0], [0, 0, 250]], np.uint8)
    write(tmp_path, "a", truth=colours[LABELS])

    masks = folder_images(tmp_path).read(0).masks_NHW

    assert (masks.sum(axis=0) == (LABELS > 0)).all()
    assert len(masks) == 2


def test_deep_images_and_deep_truths_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(np.uint16) * 3000)
    tifffile.imwrite(tmp_path / "a_truth.tif", LABELS.astype(np.int32) * 70_000)

    sample = folder_images(tmp_path).read(0)

    assert sorted(np.unique(sample.image_HWC)) == [0, 128, 255]
    assert len(sample.masks_NHW) == 2


def test_what_cannot_be_used_is_skipped_with_its_reason(tmp_path):
    write(tmp_path, "good")
    write(tmp_path, "other size", truth=LABELS[:, :20])
    write(tmp_path, "torn truth")
    write(tmp_path, "torn")
    write(tmp_path, "twice", suffix=".bmp")
    write(tmp_path, "twice")
    Image.fromarray(GREY).save(tmp_path / "alone.png")
    Image.fromarray(LABELS).save(tmp_path / "widow_truth.png")
    for name in ("torn.png", "torn truth_truth.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])

    images = folder_images(tmp_path)

    reasons = {one.name: one.reason for one in images.skipped}
    assert images.names == ("good", "twice")
    assert reasons.keys() == {
        "other size.png",
        "torn truth.png",
        "torn.png",
        "twice.png",
        "alone.png",
        "widow_truth.png",
    }
    assert reasons["other size.png"] == "the image has 30 x 20 pixels, its truth other size_truth.png has 20 x 20"
    assert reasons["torn truth.png"].startswith("its truth torn truth_truth.png: it ")
    assert reasons["alone.png"] == "there is no alone_truth.png"
    assert reasons["widow_truth.png"] == "a truth without its image"
    assert "same name" in reasons["twice.png"]


def test_other_files_hidden_files_and_folders_are_passed_over(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "._a")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "b.png").mkdir()

    images = folder_images(tmp_path)

    assert (images.names, images.skipped) == (("a",), ())


def test_a_folder_of_which_nothing_is_left_is_an_error_with_the_first_reasons(tmp_path):
    for stem in "abcd":
        Image.fromarray(GREY).save(tmp_path / f"{stem}.png")

    with pytest.raises(UsageError) as caught:
        folder_images(tmp_path)

    message = str(caught.value)
    assert str(tmp_path) in message
    assert "4 skipped: a.png: there is no a_truth.png; b.png:" in message
    assert message.endswith("and 1 more")


@pytest.mark.parametrize("name", ["a.png", "a_truth.png"])
def test_a_file_that_goes_bad_after_listing_is_named(tmp_path, name):
    write(tmp_path, "a")
    images = folder_images(tmp_path)
    (tmp_path / name).write_bytes(b"gone")

    with pytest.raises(UsageError, match=f"{name}' cannot be used: it is not an image"):
        images.read(0)


def test_a_truth_that_changes_its_size_after_listing_is_named(tmp_path):
    write(tmp_path, "a")
    images = folder_images(tmp_path)
    write(tmp_path, "a", truth=LABELS[:10])

    with pytest.raises(UsageError, match=r"a_truth\.png' cannot be used: the image has 30 x 20 pixels"):
        images.read(0)


def test_listed_images_travel_to_other_processes(tmp_path):
    write(tmp_path, "a")

    assert pickle.loads(pickle.dumps(folder_images(tmp_path))).read(0).name == "a"
