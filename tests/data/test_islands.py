import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from quatrain.data.islands import cleaned
from quatrain.data.rle import run_lengths
from quatrain.micrograph.masks import compressed, encoded, read_masks


def clean(pixels, least):
    runs = cleaned(run_lengths(encoded(pixels, pixels.shape)), pixels.shape, least)
    (mask,) = read_masks(
        [{"segmentation": {"size": list(pixels.shape), "counts": compressed(runs, pixels.shape)}}], pixels.shape
    )
    return mask.pixels()


def by_pixels(pixels, least):
    """The same by labelling every pixel."""
    parts, count = ndimage.label(pixels.T)  # of equal parts the first down the columns stays
    parts = parts.T
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= least
    keep[sizes.argmax()] = True
    keep[0] = False
    kept = keep[parts]
    holes, _ = ndimage.label(~kept, np.ones((3, 3)))
    rim = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    sizes = np.bincount(holes.ravel())
    fill = sizes < least
    fill[rim] = False
    fill[0] = False
    return kept | fill[holes]


@given(st.integers(0, 2**32), st.integers(1, 24), st.integers(1, 24), st.floats(0.05, 0.95), st.integers(0, 40))
def test_islands_and_holes_are_those_of_a_labelling_of_pixels(seed, height, width, density, least):
    pixels = np.random.default_rng(seed).random((height, width)) < density
    if not pixels.any():
        return

    assert np.array_equal(clean(pixels, least), by_pixels(pixels, least))


def test_an_empty_mask_stays_empty():
    assert not clean(np.zeros((5, 7), bool), 10).any()


def test_the_largest_part_stays_however_small():
    pixels = np.zeros((9, 9), bool)
    pixels[2:4, 2:4] = pixels[7, 7] = True

    assert clean(pixels, 1000).sum() == 4


def test_a_mask_of_everything_but_small_holes_becomes_the_whole_image():
    pixels = np.ones((9, 9), bool)
    pixels[3, 3] = pixels[5:7, 5] = False

    assert clean(pixels, 10).all()


def test_a_bay_is_no_hole():
    pixels = np.ones((9, 9), bool)
    pixels[0, 4] = pixels[5, 5] = False

    assert np.argwhere(~clean(pixels, 10)).tolist() == [[0, 4]]
