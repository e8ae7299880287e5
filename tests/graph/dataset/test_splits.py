import numpy as np
import pytest

from quatrain.graph.dataset.splits import draw, problem, shares, vertex_ids

IDS = np.array([3, 7, 8])
MASK = np.isin(np.arange(10), IDS)


@pytest.mark.parametrize(
    "values",
    [
        IDS, IDS[:, None], IDS[None], IDS.astype(np.float64), IDS.astype(np.uint8), IDS[::-1], MASK, MASK[:, None],
        MASK.astype(np.uint8), MASK.astype(np.float32), MASK.astype(str).astype(object),
    ],
)  # fmt: skip
def test_ids_and_masks_of_any_type_name_the_same_vertices(values):
    assert vertex_ids(values, 10, "train", None)[0].tolist() == [3, 7, 8]


def test_a_mask_is_reported_and_repeats_count_once():
    assert "mask: its 3 vertices" in vertex_ids(MASK, 10, "train", None)[1][0]

    ids, warnings = vertex_ids(np.array([3, 3, 5, 3]), 10, "train", None)
    assert ids.tolist() == [3, 5]
    assert warnings == ["2 entries of split 'train' are repeats: counted once"]


def test_a_column_is_chosen_of_a_mask_with_several():
    """PyTorch Geometric issue 8086: masks of WikipediaNetwork have one column for each of ten splits."""
    columns = np.stack([~MASK, MASK], axis=1)

    assert vertex_ids(columns, 10, "train", "1")[0].tolist() == [3, 7, 8]
    for column in (None, "2", "time"):
        with pytest.raises(ValueError, match="split 'train' has 2 columns; choose one by --split 0"):
            vertex_ids(columns, 10, "train", column)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([1.5, 2.0]), r"ids of split 'test' are fractions \(1.5 of entry 0\)"),
        (np.array([1, 10, 11]), r"names vertex 10 \(2 such entries\), but vertices are 0 to 9"),
        (np.array([-1, 3]), "names vertex -1"),
        (MASK[:9], "is a mask of 9 entries for 10 vertices"),
        (np.array([0, 1, 1, 0, 1]), "is a mask of 5 entries for 10 vertices"),
        (np.arange(6).reshape(3, 2), r"has the shape \(3, 2\)"),
        (np.array(["a", "b"], object), "are of the type object; give whole numbers"),
    ],
)
def test_what_names_no_vertices_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        vertex_ids(values, 10, "test", None)


def test_overlaps_and_unlabelled_vertices_are_refused_by_name_and_count():
    splits = {"train": np.arange(5), "valid": np.array([5]), "test": np.arange(3, 10)}
    labels = np.zeros(10, int)

    assert problem(splits, labels).startswith("2 vertices of 'test' are in 'train' too")
    apart = {**splits, "test": np.arange(6, 10)}
    assert problem(apart, labels) == ""
    labels[7:9] = -1
    assert problem(apart, labels) == "split 'test' holds 2 vertices without a label"


def test_drawn_splits_are_disjoint_shares_of_the_labelled_vertices():
    labels = np.where(np.arange(100) < 50, 0, -1)
    first = draw("60/20/10", labels, seed=1)

    assert {name: len(ids) for name, ids in first.items()} == {"train": 30, "valid": 10, "test": 5}
    assert problem(first, labels) == ""
    assert all((first[name] == again).all() for name, again in draw("60/20/10", labels, seed=1).items())
    assert any((first[name] != other).any() for name, other in draw("60/20/10", labels, seed=2).items())


@pytest.mark.parametrize("text", ["60/40", "60/0/40", "60/30/20", "a/b/c", "-1/2/3"])
def test_percentages_that_are_no_split_are_refused(text):
    with pytest.raises(ValueError, match=f"split is '{text}'; give three percentages"):
        shares(text)


def test_a_name_is_not_taken_for_percentages():
    assert shares("sales_ranking") is None
    assert shares("60/20/20") == (60, 20, 20)
