from __future__ import annotations

import numpy as np
import pytest
import tifffile

from quatrain.data.stack import holds_stacks, stack_images
from quatrain.errors import UsageError

VOLUME = np.random.default_rng(0).integers(0, 256, (5, 24, 32), np.uint8)
LABELS = np.zeros((5, 24, 32), np.uint8)
LABELS[:, 2:8, 2:8], LABELS[:, 12:20, 12:20], LABELS[4] = 1, 2, 0


def write(path, volume):
    tifffile.imwrite(path, volume, photometric="minisblack")


@pytest.mark.parametrize("ending", ["truth", "groundtruth", "labels"])
def test_every_slice_is_a_sample(tmp_path, ending):
    write(tmp_path / "training.tif", VOLUME)
    write(tmp_path / f"training_{ending}.tif", LABELS)

    images = stack_images(tmp_path)

    assert images.names == tuple(f"training[{z}]" for z in range(5))
    assert images.skipped == ()
    assert (images.read(3).image_HWC == VOLUME[3, :, :, None]).all()
    assert images.read(3).name == "training[3]"
    assert [int(mask.sum()) for mask in images.read(3).masks_NHW] == [64, 36]
    assert len(images.read(4).masks_NHW) == 0


def test_binary_masks_and_instance_labels_give_the_same_objects(tmp_path):
    write(tmp_path / "a.tif", VOLUME)
    write(tmp_path / "a_labels.tif", LABELS.astype(np.uint16) * 300)
    write(tmp_path / "b.tif", VOLUME)
    write(tmp_path / "b_labels.tif", (LABELS > 0).astype(np.uint8) * 255)

    images = stack_images(tmp_path)

    assert (images.read(0).masks_NHW == images.read(5).masks_NHW).all()


def test_one_stack_can_be_named_by_its_path(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.tif", VOLUME)
        write(tmp_path / f"{name}_truth.tif", LABELS)

    assert stack_images(tmp_path / "b.tif").names[0] == "b[0]"
    assert len(stack_images(tmp_path / "b.tif")) == 5
    assert len(stack_images(tmp_path)) == 10


def test_stacks_that_do_not_fit_are_skipped_with_the_reason(tmp_path):
    write(tmp_path / "good.tif", VOLUME)
    write(tmp_path / "good_truth.tif", LABELS)
    write(tmp_path / "short.tif", VOLUME)
    write(tmp_path / "short_truth.tif", LABELS[:3])
    write(tmp_path / "alone.tif", VOLUME)
    write(tmp_path / "torn.tif", VOLUME)
    write(tmp_path / "torn_truth.tif", LABELS)
    (tmp_path / "torn.tif").write_bytes((tmp_path / "torn.tif").read_bytes()[:2000])

    images = stack_images(tmp_path)

    reasons = {one.name: one.reason for one in images.skipped}
    assert len(images) == 5
    assert reasons.keys() == {"short.tif", "alone.tif", "torn.tif"}
    assert reasons["short.tif"] == "it has 5 x 24 x 32 pixels, its labels short_truth.tif have 3 x 24 x 32"
    assert "alone_groundtruth.tif" in reasons["alone.tif"]
    assert reasons["torn.tif"].startswith("it ")


def test_labels_that_are_no_tiff_are_named(tmp_path):
    write(tmp_path / "a.tif", VOLUME)
    (tmp_path / "a_truth.tif").write_bytes(b"nothing")

    with pytest.raises(UsageError, match=r"a\.tif: its labels a_truth\.tif: it "):
        stack_images(tmp_path)


@pytest.mark.parametrize(("name", "page"), [("a.tif", 2), ("a_truth.tif", 2)])
def test_a_page_that_goes_bad_after_listing_is_named(tmp_path, name, page):
    write(tmp_path / "a.tif", VOLUME)
    write(tmp_path / "a_truth.tif", LABELS)
    images = stack_images(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(UsageError, match=f"frame {page} of .*{name}' cannot be used: .*No such file"):
        images.read(page)


def test_a_folder_holds_stacks_when_a_pair_has_several_pages(tmp_path):
    write(tmp_path / "a.tif", VOLUME[0])
    write(tmp_path / "a_truth.tif", LABELS[0])
    assert not holds_stacks(tmp_path)

    write(tmp_path / "b.tif", VOLUME)
    assert not holds_stacks(tmp_path)

    write(tmp_path / "b_truth.tif", LABELS)
    assert holds_stacks(tmp_path)
