import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from quatrain.data.textures import TEXTURES
from quatrain.micrograph.embedders import Classical, binary_patterns, cooccurrence, intensity, spectrum
from quatrain.micrograph.merging import standardised
from quatrain.micrograph.merging_rules import kmeans, nearest


def crops_of(name, count, seed=0):
    field = TEXTURES[name](np.random.default_rng(seed), 256)
    image = np.clip(127 + 35 * field, 0, 255).astype(np.uint8)
    corners = np.random.default_rng(seed + 1).integers(0, 196, (count, 2))
    return np.stack([image[r : r + 60, c : c + 60] for r, c in corners])


@pytest.mark.parametrize("pair", [("lattice", "amorphous"), ("fringes", "blotches"), ("particles", "weave")])
def test_textures_of_one_grey_are_distinguished(pair):
    crops = np.concatenate([crops_of(name, 12) for name in pair])

    features = Classical().embed(crops, np.zeros((24, 2), np.int64))
    points = standardised(features, like=features) * Classical().weights(features.shape[1])
    found = nearest(points, kmeans(points, 2, np.random.default_rng(0), 10))

    assert adjusted_rand_score(found, np.repeat([0, 1], 12)) > 0.9


def test_the_embedder_gives_finite_features_for_flat_and_for_wild_crops():
    crops = np.stack([np.zeros((60, 60)), np.full((60, 60), 255), np.indices((60, 60)).sum(axis=0) % 2 * 255])

    features = Classical().embed(crops.astype(np.uint8), np.zeros((3, 2), int))

    assert features.shape[0] == 3
    assert np.isfinite(features).all()


@pytest.mark.parametrize("part", [intensity, cooccurrence, binary_patterns, spectrum])
def test_each_crop_is_described_by_itself(part):
    crops = crops_of("lattice", 5)

    together = part(crops)

    assert np.allclose(together[2:3], part(crops[2:3]))
    assert together.shape[0] == 5


def test_a_turned_crop_has_the_same_patterns_and_cooccurrence():
    crops = crops_of("lattice", 3)
    turned = np.rot90(crops, axes=(1, 2))

    assert np.allclose(binary_patterns(crops), binary_patterns(turned))
    assert np.allclose(cooccurrence(crops), cooccurrence(turned))


def test_cooccurrence_of_stripes_is_what_can_be_counted_by_hand():
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 60, 30))

    contrast, homogeneity, entropy, correlation = cooccurrence(stripes)[0, :4]

    # at 1 px: across and both diagonals differ by 15 levels, along none does
    assert contrast == pytest.approx(3 / 4 * np.log1p(225))
    assert homogeneity == pytest.approx((3 / 226 + 1) / 4)
    assert entropy == pytest.approx(np.log(2), rel=1e-3)
    assert correlation == pytest.approx(-0.5, abs=0.02)


def test_the_ring_of_a_wave_holds_its_power():
    wave = np.broadcast_to(127 + 100 * np.cos(2 * np.pi * np.arange(60) / 6), (1, 60, 60)).astype(np.uint8)

    rings = spectrum(wave)[0, :12]

    assert rings.argmax() == int(1 / 6 / 0.5 * 12)
