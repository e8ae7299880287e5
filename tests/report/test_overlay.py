from __future__ import annotations

import base64
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quatrain.report.overlay import COLOURS, data_uri, overlay

GREY = np.full((40, 60, 3), 100, dtype=np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_outside_every_mask_the_image_is_untouched():
    mask = square(5, 5, 10)

    drawn = overlay(GREY, mask[None])

    assert drawn.dtype == np.uint8
    assert (drawn[~mask] == 100).all()
    assert (drawn[mask] != 100).any(axis=1).all()


def test_the_outline_is_full_colour_and_the_inside_a_tint():
    drawn = overlay(GREY, square(5, 5, 10)[None], strength=0.5)

    assert tuple(drawn[5, 8]) == tuple(COLOURS[0])
    assert np.abs(drawn[10, 10].astype(int) - (100 + COLOURS[0].astype(int)) / 2).max() <= 1


def test_objects_have_different_colours_until_seven_are_used_up():
    masks = np.stack([square(1, 6 * number, 5) for number in range(8)])

    edges = [tuple(overlay(GREY, masks)[1, 6 * number]) for number in range(8)]

    assert len(set(edges)) == 7
    assert edges[7] == edges[0]


def test_a_mask_is_not_outlined_where_the_image_ends():
    everything = np.ones((1, 40, 60), dtype=bool)

    assert len(np.unique(overlay(GREY, everything).reshape(-1, 3), axis=0)) == 1


def test_no_masks_leave_a_copy_of_the_image():
    drawn = overlay(GREY, np.zeros((0, 40, 60), dtype=bool))
    drawn[:] = 0

    assert (GREY == 100).all()


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1)])
def test_grey_images_are_drawn_in_colour(shape):
    assert overlay(np.zeros(shape, dtype=np.uint8), square(0, 0, 9)[None]).shape == (40, 60, 3)


@pytest.mark.parametrize("shape", [(40, 60), (1, 60, 40), (1, 40, 59)])
def test_masks_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"it must be \(N, 40, 60\)"):
        overlay(GREY, np.zeros(shape, dtype=bool))


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="it must be uint8 with 1 or 3 channels"):
        overlay(image, np.zeros((1, 4, 4), dtype=bool))


@settings(max_examples=30)
@given(st.integers(60, 900), st.integers(60, 900))
def test_embedded_images_are_small_and_keep_their_proportions(height, width):
    with TemporaryDirectory() as folder:
        Image.new("L", (width, height), 50).save(Path(folder, "x.png"))
        uri = data_uri(Path(folder, "x.png"), longest_px=300)
    kind, _, content = uri.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert max(image.size) == min(300, max(height, width))
        assert abs(image.width / image.height / (width / height) - 1) < 0.5 / min(image.size) + 0.01
    assert kind == "data:image/jpeg;base64"


def test_a_file_that_is_no_image_is_an_os_error(tmp_path):
    (tmp_path / "x.png").write_text("no image")

    with pytest.raises(OSError, match="cannot identify"):
        data_uri(tmp_path / "x.png")
