from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.data.synthetic import LAYOUTS, SyntheticImages
from quatrain.errors import UsageError

FLAT = ("flat", "flat")  # two materials that differ only in their greys
SEEDS = st.integers(0, 2**32 - 1)
REACH = range(-6, 7)


def small(**changes):
    return SyntheticImages(**({"count": 6, "seed": 11, "size_px": 48} | changes))


def assert_equal(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_image_depends_on_the_seed_and_its_index_alone():
    forwards = [small().micrograph(index) for index in range(4)]
    longer = small(count=60)

    for index in (3, 0, 2, 1):
        assert_equal(longer.micrograph(index), forwards[index])


def test_images_of_other_seeds_and_other_indices_are_others():
    images = [small(seed=seed).micrograph(index)[0] for seed in (0, 1) for index in (0, 1)]

    assert len({image.tobytes() for image in images}) == 4


def test_making_images_leaves_the_global_random_numbers_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    small().read(0)

    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - the same


@pytest.mark.parametrize("specimen", [False, True])
def test_a_set_sent_to_another_process_reads_the_same(specimen):
    images = small(specimen=specimen)
    sent = pickle.loads(pickle.dumps(images))

    assert sent == images
    assert_equal(sent.micrograph(2), images.micrograph(2))


@settings(max_examples=15)
@given(seed=SEEDS, size_px=st.integers(32, 72), layout=st.sampled_from(sorted(LAYOUTS)))
def test_every_image_shows_two_to_five_materials_numbered_from_one(seed, size_px, layout):
    image, labels = small(seed=seed, size_px=size_px, layouts=(layout,)).micrograph(0)

    assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)
    assert image.shape == labels.shape == (size_px, size_px)
    assert 2 <= len(np.unique(labels)) <= 5
    assert 1 <= labels.min() <= labels.max() <= 5
    assert image.max() - int(image.min()) > 100  # the grey range is used


def test_no_more_materials_than_are_named():
    assert {int(small(materials=FLAT).micrograph(index)[1].max()) for index in range(6)} == {2}


def test_a_read_image_is_grey_and_its_objects_are_the_material_regions():
    images = small()
    image, labels = images.micrograph(1)
    sample = images.read(1)

    assert sample.name == images.names[1]
    assert_equal(np.moveaxis(sample.image_HWC, -1, 0), [image] * 3)
    areas = sample.masks_NHW.sum(axis=(1, 2))
    assert list(areas) == sorted(areas, reverse=True)
    assert areas.min() >= 0.01 * image.size
    assert sample.masks_NHW.sum(axis=0).max() == 1
    assert all(len(np.unique(labels[mask_HW])) == 1 for mask_HW in sample.masks_NHW)


def clear(images):
    """The images whose two greys lie well apart, with the grey of each pixel's material."""
    for index in range(len(images)):
        image, labels = images.micrograph(index)
        painted = np.where(labels == 1, image[labels == 1].mean(), image[labels == 2].mean())
        if np.ptp(painted) > 60:
            yield image.astype(float), painted


def misfit(image, painted, shift, rows=slice(None)):
    """How far the pixels of some rows lie from the greys of the truth moved `shift` pixels sideways."""
    return np.abs(image - np.roll(painted, shift, axis=1))[rows, 8:-8].mean()


def test_grey_distinguishes_the_materials_as_the_truth_says():
    seen = list(clear(small(materials=FLAT, count=10, size_px=96)))

    middles = [(painted.min() + painted.max()) / 2 for _, painted in seen]
    shares = [((i > middle) == (p > middle)).mean() for (i, p), middle in zip(seen, middles, strict=True)]
    assert len(shares) >= 5
    assert min(shares) > 0.7  # electrons are counted: a low dose is noisy
    assert np.mean(shares) > 0.9


def test_the_truth_drifts_with_the_image():
    seen = list(clear(small(materials=FLAT, count=16, size_px=96, layouts=("bands", "islands"))))

    assert len(seen) >= 8
    for image, painted in seen:
        for start in range(0, 96, 16):  # a few scan lines, which drift together
            rows = slice(start, start + 16)
            if np.ptp(painted[rows, 8:-8]):
                best = min(misfit(image, painted, shift, rows) for shift in REACH)
                assert misfit(image, painted, 0, rows) <= best + 5  # greys; a seam or a charge makes up to 3


def test_names_are_all_different_and_contain_the_seed():
    names = small(count=12).names

    assert len(set(names)) == len(names) == len(small(count=12)) == 12
    assert not set(names) & set(small(count=12, seed=12).names)
    assert small().skipped == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"materials": ("flat", "latice")}, "there is no material 'latice': did you mean 'lattice'"),
        ({"layouts": ("band",)}, "there is no layout 'band': did you mean 'bands'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(changes, message):
    with pytest.raises(UsageError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"size_px": 31}, "size_px is 31; it must be at least 32"),
        ({"materials": ("flat",)}, r"materials are \('flat',\); name at least two"),
        ({"layouts": ()}, r"layouts are \(\); name at least one"),
    ],
)
def test_an_impossible_set_is_refused_with_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@settings(max_examples=10)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@given(seed=SEEDS, size_px=st.integers(32, 80), count=st.integers(2, 5))
def test_every_layout_fills_the_image_with_some_of_its_materials(layout, seed, size_px, count):
    labels = layout(np.random.default_rng(seed), size_px, count)

    assert labels.shape == (size_px, size_px)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(range(1, count + 1))


def test_alike_images_have_closer_greys_than_others():
    def spread(alike: float) -> float:
        made = SyntheticImages(count=12, size_px=64, seed=4, materials=("flat", "amorphous"), alike=alike)
        pairs = [made.micrograph(index) for index in range(12)]
        return float(
            np.mean([np.ptp([image[labels == k].mean() for k in np.unique(labels)]) for image, labels in pairs])
        )

    assert spread(1.0) < 0.7 * spread(0.0)


def test_a_material_of_one_specimen_has_its_grey_in_every_image_and_another_place_in_each():
    def shown(images: SyntheticImages, index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        return images._painted(rng, ["lattice"])[0]

    specimen, other = small(alike=0.0, specimen=True), small(alike=0.0, specimen=True, seed=12)
    pieces = [shown(specimen, index) for index in range(5)]

    assert np.ptp([piece.mean() for piece in pieces]) < 0.05
    assert len({piece.tobytes() for piece in pieces}) == 5
    assert abs(shown(other, 0).mean() - pieces[0].mean()) > 0.05


@pytest.mark.parametrize("alike", [-0.1, 1.1])
def test_a_share_of_alike_images_outside_0_to_1_is_refused(alike):
    with pytest.raises(ValueError, match="alike"):
        SyntheticImages(count=1, seed=0, alike=alike)
