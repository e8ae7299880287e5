from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from PIL import Image

from quatrain.data import image_file
from quatrain.data.decode import UnreadableError, image_hw, read_labels, read_pixels, stack_shape

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY16 = RGB[:, :, 0].astype(np.uint16) * 257


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "A.TIFF"])
def test_lossless_files_give_back_what_was_written(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)

    assert (read_pixels(tmp_path / name) == RGB).all()
    assert image_hw(tmp_path / name) == (20, 30)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("image", [GREY16, GREY16[:, :, None].repeat(3, 2), GREY16.astype(np.float32) / 7])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_deep_tiffs_keep_their_depth(tmp_path, image, compression, byteorder):
    tifffile.imwrite(tmp_path / "a.tif", image, compression=compression, byteorder=byteorder)

    read = read_pixels(tmp_path / "a.tif")

    assert (read == image).all()
    assert read.dtype == image.dtype


@pytest.mark.parametrize("image", [RGB, RGB[:, :, 0], GREY16])
def test_lzw_tiffs_are_read(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.tif", compression="tiff_lzw")

    assert (read_pixels(tmp_path / "a.tif") == image).all()
    assert image_hw(tmp_path / "a.tif") == (20, 30)


def test_colour_planes_of_a_tiff_become_the_last_axis(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY16[None].repeat(3, 0), photometric="rgb", planarconfig="separate")

    assert read_pixels(tmp_path / "a.tif").shape == (20, 30, 3)


def test_a_16_bit_png_keeps_its_depth(tmp_path):
    Image.fromarray(GREY16).save(tmp_path / "a.png")

    assert (read_pixels(tmp_path / "a.png") == GREY16).all()


def test_a_palette_is_colours_in_an_image_and_labels_in_a_truth(tmp_path):
    indices = (RGB[:, :, 0] % 3).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 90, 0])
    image.save(tmp_path / "a.png")

    assert (read_pixels(tmp_path / "a.png")[:, :, 0] == np.array([0, 200, 0])[indices]).all()
    assert (read_labels(tmp_path / "a.png") == indices).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")

    assert read_pixels(tmp_path / "a.jpg").shape == (20, 30, 3)


def test_colours_become_labels_and_black_stays_0(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)
    labels = RGB[:, :, 0] % 4
    Image.fromarray(colours[labels]).save(tmp_path / "a.png")

    read = read_labels(tmp_path / "a.png")

    assert (read[labels == 0] == 0).all()
    assert [len(np.unique(read[labels == label])) for label in range(4)] == [1, 1, 1, 1]
    assert len(np.unique(read)) == 4


def test_a_grey_truth_with_alpha_is_its_grey_values(tmp_path):
    labels = RGB[:, :, 0] % 4
    Image.merge("LA", [Image.fromarray(labels), Image.fromarray(labels * 60)]).save(tmp_path / "a.png")

    assert (read_labels(tmp_path / "a.png") == labels).all()


def test_whole_floats_are_labels_and_fractions_are_none(tmp_path):
    tifffile.imwrite(tmp_path / "whole.tif", np.array([[0, 1], [2, 2]], np.float32))
    tifffile.imwrite(tmp_path / "part.tif", np.array([[0, 1], [2, 2.5]], np.float32))

    assert read_labels(tmp_path / "whole.tif").tolist() == [[0, 1], [2, 2]]
    with pytest.raises(UnreadableError, match="fractions"):
        read_labels(tmp_path / "part.tif")


@pytest.mark.parametrize("imagej", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_single_pages_of_a_stack_are_read(tmp_path, imagej, compression):
    stack = np.stack([GREY16 // (z + 1) for z in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=imagej, compression=compression, photometric="minisblack")

    assert stack_shape(tmp_path / "a.tif") == (4, 20, 30)
    assert all((read_pixels(tmp_path / "a.tif", z) == stack[z]).all() for z in range(4))


def test_a_stack_that_lists_only_its_first_page_is_read(tmp_path):
    stack = np.stack([RGB[:, :, 0] // (z + 1) for z in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"}, truncate=True)

    assert stack_shape(tmp_path / "a.tif") == (4, 20, 30)
    assert all((read_pixels(tmp_path / "a.tif", z) == stack[z]).all() for z in range(4))


def test_a_stack_is_not_one_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 20, 30), np.uint8), photometric="minisblack")

    with pytest.raises(UnreadableError, match="a stack of 4 frames"):
        image_hw(tmp_path / "a.tif")


def test_pages_of_different_sizes_are_images_of_their_own(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(np.zeros((4, 5), np.uint8))
        tiff.write(np.zeros((5, 5), np.uint8))

    with pytest.raises(UnreadableError, match="it holds 2 images, not one: page0, page1"):
        stack_shape(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_a_file_that_is_cut_off_is_found_before_it_is_read(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * 0.8)])

    with pytest.raises(UnreadableError):
        image_hw(tmp_path / name)


def test_a_jpeg_with_something_after_its_end_is_whole(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 500)

    assert image_hw(tmp_path / "a.jpg") == (20, 30)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0"])
def test_what_is_no_image_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    for reader in (image_hw, read_pixels, read_labels):
        with pytest.raises(UnreadableError) as caught:
            reader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UnreadableError, match="No such file"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, name, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / name)
    monkeypatch.setattr(image_file, "MOST_PIXELS", 500)

    for reader in (image_hw, read_pixels):
        with pytest.raises(UnreadableError, match="it has 30 x 20 pixels; the most are 500"):
            reader(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_random_damage_never_raises_anything_else(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    whole, dice = (tmp_path / name).read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[dice.randrange(min(len(whole), 200))] = dice.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        for reader in (image_hw, read_pixels, read_labels):
            with suppress(UnreadableError):
                reader(tmp_path / name)
