"""Graph folders as people have them: what the check says without edges and features, and what the reader does."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from graph_world import plain_folder, text_ogb

from quatrain.errors import UsageError
from quatrain.graph.config import SyntheticConfig
from quatrain.graph.dataset import synthetic
from quatrain.graph.dataset.check import check_graph
from quatrain.graph.dataset.load import read_graph
from quatrain.graph.dataset.ogb_package import nodeproppred


@pytest.fixture
def plain(tmp_path):
    return plain_folder(tmp_path / "g")


def save(folder, **arrays):
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)


def as_text(folder, name, rows, header="", delimiter=",", suffix=".csv"):
    (folder / f"{name}.npy").unlink()
    np.savetxt(folder / f"{name}{suffix}", rows, header=header, delimiter=delimiter, fmt="%.8g", comments="")


def refused(folder, words, **options):
    """The reader refuses the folder in one line; return what the check says."""
    with pytest.raises(UsageError, match=words) as caught:
        read_graph(folder, **options)
    assert "\n" not in str(caught.value)
    return check_graph(folder, **options).error


def test_the_check_counts_what_a_folder_holds(plain):
    found = check_graph(plain)

    assert (found.vertices, found.edges, found.classes) == (20, 60, 3)
    assert found.splits == {"train": 5, "valid": 5, "test": 5}
    assert found.error is None


def test_the_check_counts_as_the_reader_does_in_the_layouts_of_ogb(tmp_path):
    synthetic.make("rmat", SyntheticConfig(vertices=300, degree=6.0, features=5, classes=3), tmp_path / "b")
    for folder in (text_ogb(tmp_path), tmp_path / "b"):
        found, graph = check_graph(folder), read_graph(folder)

        assert found.error is None
        assert (found.vertices, found.edges, found.classes) == (graph.vertices, graph.edges.shape[1], graph.classes)
        assert found.splits == {name: len(ids) for name, ids in graph.splits.items()}


def test_the_check_needs_neither_torch_nor_dgl(plain):
    code = (
        "import sys; from quatrain.graph.dataset.check import check_graph; print(check_graph(sys.argv[1]).error, "
        "{'torch', 'dgl', 'ogb'} & set(sys.modules))"
    )

    answer = subprocess.run([sys.executable, "-c", code, plain], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "None set()"


def test_masks_of_any_layout_give_the_splits_of_the_ids(plain):
    before = read_graph(plain).splits
    for name, ids in before.items():
        mask = np.isin(np.arange(20), ids)
        if name == "train":
            save(plain, train=mask)
        else:
            as_text(plain, name, mask.astype(int))

    after = read_graph(plain)

    assert all((after.splits[name] == ids).all() for name, ids in before.items())
    assert sum("is a mask" in warning for warning in after.warnings) == 3


def test_masks_under_the_names_of_pytorch_geometric_are_found(plain):
    for name, new in (("train", "train_mask"), ("valid", "val_mask"), ("test", "test_mask")):
        (plain / f"{name}.npy").rename(plain / f"{new}.npy")

    assert check_graph(plain).splits == {"train": 5, "valid": 5, "test": 5}


def test_masks_of_ogb_give_the_splits_of_the_ids(tmp_path):
    folder = text_ogb(tmp_path)
    before = read_graph(folder).splits
    for name, ids in before.items():
        with gzip.open(folder / "split" / "time" / f"{name}.csv.gz", "wt") as file:
            np.savetxt(file, np.isin(np.arange(20), ids), fmt="%d")

    assert all((read_graph(folder).splits[name] == ids).all() for name, ids in before.items())


def test_missing_splits_are_refused_with_the_way_out_or_drawn(plain):
    """GraphStorm issue 1205: a graph without masks; issue 1006: percentages below 100 in sum."""
    for name in ("train", "valid", "test"):
        (plain / f"{name}.npy").unlink()

    assert "--split 60/20/20 draws splits" in refused(plain, r"lacks train\.npy or \.csv, valid")
    drawn = read_graph(plain, "60/20/10", 3)
    assert [len(ids) for ids in drawn.splits.values()] == [12, 4, 2]
    assert drawn.split == "60/20/10 drawn with seed 3"
    assert drawn.identity() != read_graph(plain, "60/20/10", 4).identity()
    assert "at most 100" in refused(plain, "at most 100", split="60/20/30")


def test_several_splits_of_ogb_are_listed_and_one_is_chosen(tmp_path):
    folder = text_ogb(tmp_path)
    other = folder / "split" / "random"
    other.mkdir()
    for name, vertex in (("train", 1), ("valid", 2), ("test", 3)):
        with gzip.open(other / f"{name}.csv.gz", "wt") as file:
            file.write(f"{vertex}\n")

    assert "holds the splits random, time: choose one by --split NAME" in refused(folder, "random, time")
    assert read_graph(folder, "random").splits["test"].tolist() == [3]
    assert len(read_graph(folder, "time").splits["test"]) == 5
    assert "did you mean 'time'" in refused(folder, "no split 'tim'", split="tim")


def test_overlapping_splits_are_refused_by_name_and_count(plain):
    graph = read_graph(plain)
    save(plain, test=np.r_[graph.splits["test"], graph.splits["train"][:2]])

    assert "2 vertices of 'test' are in 'train' too" in refused(plain, "disjoint")


def test_targets_of_several_columns_are_refused_in_ogb_and_plain_folders(plain, tmp_path):
    many = np.random.default_rng(1).integers(0, 2, (20, 112))
    save(plain, labels=many)
    folder = text_ogb(tmp_path)
    with gzip.open(folder / "raw" / "node-label.csv.gz", "wt") as file:
        np.savetxt(file, many, fmt="%d", delimiter=",")

    for place in (plain, folder):
        assert "labels have 112 columns" in refused(place, "one class per vertex")


@pytest.mark.parametrize(("name", "words"), [("ogbn_proteins", "112 targets"), ("ogbn_mag", "several types")])
def test_published_data_sets_of_other_tasks_are_refused_by_name(name, words, tmp_path):
    (tmp_path / name / "raw").mkdir(parents=True)

    assert words in refused(tmp_path / name, words)


def test_a_third_column_is_refused_unless_a_header_names_two(plain):
    edges = np.load(plain / "edges.npy")
    weighted = np.c_[np.full(60, 0.5), edges]
    as_text(plain, "edges", weighted)
    assert "edges have 3 columns" in refused(plain, "a header with source and target")

    for header, words in (("weight,a,b", "weight, a, b; name two of them source and target"), ("weight,src,DST", "")):
        np.savetxt(plain / "edges.csv", weighted, header=header, delimiter=",", fmt="%.8g", comments="")
        if words:
            assert words in refused(plain, words)
    assert (read_graph(plain).edges == edges.T).all()
    assert check_graph(plain).edges == 60
    save(plain, edges=np.c_[edges, edges[:, :1]])
    assert "shape (60, 3)" in refused(plain, "two columns")


def test_an_edge_list_of_snap_is_read_past_its_comments(plain):
    edges = np.load(plain / "edges.npy")
    as_text(plain, "edges", edges, "# Undirected graph\n# FromNodeId\tToNodeId", "\t", ".txt")

    assert (read_graph(plain).edges == edges.T).all()
    assert check_graph(plain).edges == 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e + 1, "ids seem to begin at 1"),
        (lambda e: e * 1000 + 101, "60 edges lead to vertices outside 0 to 19 .* number the vertices"),
        (lambda e: (e.astype(np.int64) + 2**31).astype(np.int32), "overflow of int32"),
        (lambda e: e + 0.5, "edges are fractions"),
        (lambda e: e.astype(np.float32) + 2**25, "too large for float32"),
        (lambda e: e[:0], "no edges"),
    ],
)
def test_ids_that_are_no_vertices_are_refused_with_their_count(change, words, plain):
    """GLI issue 190: ids from 1; DGL issue 3967: Friendster's ids have gaps."""
    edges = np.load(plain / "edges.npy")
    edges[:2] = [[0, 19], [19, 0]]
    save(plain, edges=change(edges))

    refused(plain, words)


def test_ids_beyond_64_bits_are_refused(plain):
    """Nodevectors issue 16: ids of 22 digits in an edge list."""
    (plain / "edges.npy").unlink()
    (plain / "edges.csv").write_text("0,1\n8237827382738273827382,2\n")

    refused(plain, "edges are (of the type|too large)")


def test_loops_repeats_and_isolated_vertices_are_counted(plain):
    save(plain, edges=np.array([[0, 0], [0, 1], [0, 1], [1, 0]]))

    assert read_graph(plain).warnings[-3:] == (
        "1 self loops are removed", "1 repeated edges count once", "18 vertices have no edge"
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["f2", ">f4", "f8", "i1", "u1", "i8", "?"])
def test_features_of_any_type_of_number_are_read_as_float32(kind, plain):
    rows = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(kind)
    save(plain, features=rows)

    graph = read_graph(plain)
    assert graph.rows(np.arange(20)).dtype == np.float32
    assert (graph.rows(np.arange(20)) == rows.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, r"feature 1 of vertex 7 is nan \(1 such vertices\)"), (1e300, "feature 1 of vertex 7 is inf")],
)
def test_features_that_are_no_finite_float32_are_refused(value, words, plain):
    rows = np.zeros((20, 3))
    rows[7, 1] = value
    save(plain, features=rows)

    refused(plain, words)


def test_features_of_another_kind_are_refused(plain):
    save(plain, features=np.zeros((20, 3), complex))
    refused(plain, "type complex128; give real numbers")
    save(plain, features=np.zeros((3, 20)))
    assert "features are of 3 vertices and labels of 20" in refused(plain, "features are of 3 vertices")


def test_labels_with_gaps_train_on_the_classes_in_use(plain):
    labels = np.load(plain / "labels.npy")
    save(plain, labels=np.array([10, 5000, 2_000_000])[labels])

    graph = read_graph(plain)

    assert (graph.labels == labels).all()
    assert (graph.classes, graph.class_names) == (3, (10, 5000, 2_000_000))


def test_a_class_that_training_lacks_is_reported(plain):
    graph = read_graph(plain)
    labels = np.load(plain / "labels.npy")
    labels[graph.splits["test"][:2]] = 3
    save(plain, labels=labels)

    assert "2 test vertices have a class that no training vertex has" in read_graph(plain).warnings


@pytest.mark.filterwarnings("ignore")
def test_the_text_layout_is_read_as_the_readers_of_ogb_read_it(tmp_path, monkeypatch):
    folder = text_ogb(tmp_path)
    (folder / "RELEASE_v1.txt").touch()
    (folder / "processed").mkdir()
    for name, count in (("node", 20), ("edge", 60)):
        with gzip.open(folder / "raw" / f"num-{name}-list.csv.gz", "wt") as file:
            file.write(f"{count}\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on stdin"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("asked the network"))
    about = {
        "dir_path": str(folder), "version": 1, "download_name": "none", "num tasks": 1, "num classes": 3,
        "task type": "multiclass classification", "eval metric": "acc", "is hetero": "False", "binary": "False",
        "add_inverse_edge": "False", "additional node files": "None", "additional edge files": "None", "split": "time",
    }  # fmt: skip
    theirs = nodeproppred().NodePropPredDataset("ogbn-small", meta_dict=about)
    (whole, labels), splits = theirs[0], theirs.get_idx_split()

    ours = read_graph(folder)

    assert (whole["edge_index"] == ours.edges).all()
    assert (whole["node_feat"] == ours.rows(np.arange(20))).all()
    assert (labels[:, 0] == ours.labels).all()
    assert all((np.sort(splits[name]) == ids).all() for name, ids in ours.splits.items())
    assert (whole["num_nodes"], theirs.num_classes) == (ours.vertices, ours.classes)
