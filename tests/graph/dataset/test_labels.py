import numpy as np
import pytest

from quatrain.graph.dataset.labels import classes_of


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_numbers_from_0_stay_as_they_are(kind, shape):
    found = classes_of(np.array([0, 2, 1, 2], kind).reshape(shape))

    assert found.labels.tolist() == [0, 2, 1, 2]
    assert (found.count, found.names, found.warnings) == (3, None, ())


@pytest.mark.parametrize("codes", [(10, 5000, 2_000_000_000), (1, 2, 3), (0, 1, 7)])
def test_numbers_with_gaps_are_renumbered_and_the_map_is_kept(codes):
    found = classes_of(np.array(codes)[[2, 0, 1, 0]])

    assert found.labels.tolist() == [2, 0, 1, 0]
    assert found.names == codes
    assert found.warnings == (f"labels from {codes[0]} to {codes[2]} are 3 classes: renumbered from 0",)


def test_names_become_classes_in_their_order():
    found = classes_of(np.array(["cs.LG", "cs.AI", np.nan, "cs.LG"], object))

    assert found.labels.tolist() == [1, 0, -1, 1]
    assert found.names == ("cs.AI", "cs.LG")


def test_nan_and_minus_one_are_unknown():
    """OGB issue 404: labels of ogbn-papers100M are float32 with NaN for 98 % of the vertices."""
    assert classes_of(np.array([0, np.nan, 1], np.float32)).labels.tolist() == [0, -1, 1]
    assert classes_of(np.array([0, -1, 1])).labels.tolist() == [0, -1, 1]


def test_one_hot_rows_are_classes():
    """DGL issue 2677: labels of Planetoid's files are one-hot rows."""
    found = classes_of(np.eye(3, dtype=np.int8)[[2, 0, 1]])

    assert found.labels.tolist() == [2, 0, 1]
    assert "one-hot" in found.warnings[0]


def test_classes_of_a_published_data_set_that_a_sample_lacks_are_kept():
    assert classes_of(np.array([0, 5]), known=40).count == 40
    with pytest.raises(ValueError, match="labels run to 40; the published data set has 40 classes from 0"):
        classes_of(np.array([0, 40]), known=40)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[1, 1, 0], [0, 1, 0]]), r"labels have 3 columns \(several targets per vertex\)"),
        (np.array([0, 1 / 60, 2]), r"labels are fractions \(0.0166667 of vertex 1\)"),
        (np.array([0, np.inf]), "not finite"),
        (np.array([3, 3, -1, 3]), "labels hold 1 class in use"),
        (np.array([np.nan, np.nan]), "labels hold 0 classes in use"),
        (np.array([100, -56], np.int8), r"1 labels are below -1 \(down to -56\)"),
        (np.array([0, 2**25], np.float32), "too large for float32 to be exact"),
        (np.array([0, 2**63], np.uint64), r"largest number that fits is 2\^63 - 1"),
        (np.array([0, 1j]), "complex128"),
    ],
)
def test_labels_that_are_no_classes_are_refused_in_one_line(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        classes_of(values)
    assert "\n" not in str(caught.value)
