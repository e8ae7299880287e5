from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.data.textures import SEEN, TEXTURES, UNSEEN, positions, smooth_noise

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=8)
@pytest.mark.parametrize("name", TEXTURES)
@given(seed=SEEDS, size_px=st.integers(32, 80))
def test_every_texture_has_zero_mean_and_unit_deviation(name, seed, size_px):
    field = TEXTURES[name](np.random.default_rng(seed), size_px)

    assert field.shape == (size_px, size_px)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()
    assert abs(field.mean()) < 1e-3
    assert field.std() == pytest.approx(0 if name == "flat" else 1, abs=1e-3)


def test_a_texture_repeats_with_its_generator():
    for texture in TEXTURES.values():
        one, other = (texture(np.random.default_rng(4), 40) for _ in range(2))
        np.testing.assert_array_equal(one, other)


def test_no_material_is_both_seen_and_unseen():
    assert not set(SEEN) & set(UNSEEN)
    assert set(SEEN) | set(UNSEEN) == set(TEXTURES)


@given(seed=SEEDS, scale_px=st.floats(2, 200))
def test_smooth_noise_has_unit_deviation_at_any_scale(seed, scale_px):
    field = smooth_noise(np.random.default_rng(seed), 48, scale_px)

    assert field.mean() == pytest.approx(0, abs=1e-3)
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_noise_of_a_larger_scale_is_smoother():
    roughness = [np.abs(np.diff(smooth_noise(np.random.default_rng(0), 128, scale))).mean() for scale in (4, 16, 64)]

    assert roughness == sorted(roughness, reverse=True)


def test_positions_are_rows_and_columns():
    rows, columns = positions(4)

    assert (rows[3, 1], columns[3, 1]) == (3, 1)
