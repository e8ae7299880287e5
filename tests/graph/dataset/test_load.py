import builtins
import gzip

import h5py
import numpy as np
import pytest
from graph_world import plain_folder, text_ogb

from quatrain.errors import UsageError
from quatrain.graph.config import GnnConfig, SyntheticConfig
from quatrain.graph.dataset import arrays, synthetic
from quatrain.graph.dataset import graph as data
from quatrain.graph.dataset.load import open_graph, read_graph
from quatrain.graph.dataset.splits import PARTS

TINY = SyntheticConfig(vertices=300, degree=6.0, features=5, classes=3)


def opened(path, tmp_path):
    return open_graph(GnnConfig(data=str(path)), tmp_path / "cache")


def same(graph, other):
    assert (np.sort(graph.edges, axis=1) == np.sort(other.edges, axis=1)).all()
    np.testing.assert_allclose(graph.features[:], other.features[:], rtol=1e-6)
    assert (graph.labels == other.labels).all()
    assert all((graph.splits[part] == other.splits[part]).all() for part in PARTS)


@pytest.mark.parametrize("kind", ["community", "rmat"])
def test_a_made_graph_is_the_same_for_the_same_settings_and_another_for_another_seed(kind, tmp_path):
    first, again = (open_graph(GnnConfig(data=f"made:{kind}", made=TINY), tmp_path / name) for name in "ab")
    other = open_graph(
        GnnConfig(data=f"made:{kind}", made=SyntheticConfig(**{**vars_of(TINY), "seed": 1})), tmp_path / "a"
    )

    same(first, again)
    assert (first.edges != other.edges).any()
    assert first.edges.shape == (2, 900)


def vars_of(config):
    return {name: getattr(config, name) for name in ("vertices", "degree", "features", "classes")}


def test_degrees_of_made_graphs_have_a_long_tail():
    rng = np.random.default_rng(0)
    for edges in (synthetic.rmat(4000, 40_000, rng), synthetic.community(rng.integers(10, size=4000), 40_000, rng)):
        degrees = np.bincount(edges.ravel(), minlength=4000)
        assert degrees.max() > 10 * degrees.mean()


def test_most_edges_of_a_community_graph_stay_inside():
    rng = np.random.default_rng(0)
    home = rng.integers(10, size=4000)
    source, target = synthetic.community(home, 40_000, rng)

    assert 0.78 < (home[source] == home[target]).mean() < 0.86  # those drawn inside, and a tenth of the others


def test_features_predict_labels():
    labels = np.arange(3000) % 3
    rows = np.concatenate(list(synthetic._features(labels, SyntheticConfig(vertices=3000, features=30, classes=3))))
    centres = np.stack([rows[labels == one].mean(axis=0) for one in range(3)])
    nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)

    assert (nearest == labels).mean() > 0.8


def test_ogb_itself_reads_a_made_graph_as_one_of_its_own(tmp_path, monkeypatch):
    ogb_package = pytest.importorskip("ogb.io.read_graph_raw")
    synthetic.make("community", TINY, tmp_path)

    (read,) = ogb_package.read_binary_graph_raw(str(tmp_path / "raw"), False)

    graph = read_graph(tmp_path)
    assert (read["edge_index"] == graph.edges).all()
    assert (read["node_feat"] == graph.features).all()
    assert read["num_nodes"] == 300


def test_the_text_layout_of_ogb_reads_like_a_plain_folder(tmp_path):
    same(opened(text_ogb(tmp_path), tmp_path), read_graph(tmp_path / "plain"))


def test_an_ogb_folder_that_is_not_whole_is_refused_with_all_that_is_missing_and_nobody_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked on stdin"))
    path = text_ogb(tmp_path)
    (path / "raw" / "edge.csv.gz").unlink()
    (path / "split" / "time" / "test.csv.gz").unlink()

    with pytest.raises(UsageError, match=r"lacks raw/edge\.csv\.gz, split/time/test\.csv\.gz"):
        opened(path, tmp_path)


def test_the_big_features_of_an_npz_are_mapped_not_read(tmp_path):
    synthetic.make("rmat", TINY, tmp_path)

    assert isinstance(read_graph(tmp_path).features, np.memmap)


def test_a_compressed_npz_reads_the_same(tmp_path):
    rows = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    np.savez_compressed(tmp_path / "data.npz", node_feat=rows)

    assert (arrays.mapped(tmp_path / "data.npz", "node_feat") == rows).all()


def test_hdf5_features_are_read_in_slices_and_never_whole(tmp_path, monkeypatch):
    path = plain_folder(tmp_path / "g", vertices=50, width=4)
    rows = np.load(path / "features.npy")
    (path / "features.npy").unlink()
    with h5py.File(path / "features.h5", "w") as file:
        file["x"] = rows
    monkeypatch.setattr(data, "SLICE_BYTES", 4 * 4 * 10)
    asked, read = [], h5py.Dataset.__getitem__

    def spy(self, key, **more):
        result = read(self, key, **more)
        asked.append(len(result))
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    graph = read_graph(path)
    wanted = np.array([49, 3, 3, 20])

    assert (graph.rows(wanted) == rows[wanted]).all()
    assert max(asked) == 10


def test_rows_come_in_the_order_asked_for_whatever_the_slice(tmp_path, monkeypatch):
    graph = read_graph(plain_folder(tmp_path / "g"))
    for size in (12, 24, 60, 1 << 20):
        monkeypatch.setattr(data, "SLICE_BYTES", size)
        wanted = np.random.default_rng(size).integers(20, size=33)
        assert (graph.rows(wanted) == graph.features[wanted]).all()


def break_features(path):
    np.save(path / "features.npy", np.load(path / "features.npy")[:-1])


def break_nan(path):
    rows = np.load(path / "features.npy")
    rows[7, 1] = np.nan
    np.save(path / "features.npy", rows)


def break_edges(path):
    np.save(path / "edges.npy", np.array([[0, 99], [1, 2], [2, 3]]))


def break_split(path):
    np.save(path / "train.npy", np.array([5, 20]))


def break_empty(path):
    np.save(path / "valid.npy", np.array([], dtype=np.int64))


def break_labels(path):
    labels = np.load(path / "labels.npy")
    labels[:] = -1
    np.save(path / "labels.npy", labels)


def break_missing(path):
    (path / "labels.npy").unlink()


def break_pickle(path):
    np.save(path / "labels.npy", np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_features, "features are of 19 vertices and labels of 20"),
        (break_nan, "feature 1 of vertex 7 is nan"),
        (break_edges, "1 edges lead to vertices outside 0 to 19"),
        (break_split, "split 'train' names vertex 20"),
        (break_empty, "split 'valid' is empty"),
        (break_labels, "labels hold 0 classes in use"),
        (break_missing, r"lacks labels\.npy or \.csv"),
        (break_pickle, "Python objects in dtype"),
    ],
)
def test_a_graph_whose_parts_do_not_fit_is_reported_in_one_line(damage, words, tmp_path):
    path = plain_folder(tmp_path / "g")
    damage(path)

    with pytest.raises(UsageError, match=words) as caught:
        opened(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_reported_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="made:community"):
        opened(tmp_path / "nowhere", tmp_path)


def test_csv_files_read_as_npy_files_do(tmp_path):
    path = plain_folder(tmp_path / "g")
    before = read_graph(path)
    for name in ("edges", "labels", *PARTS):
        np.savetxt(path / f"{name}.csv", np.load(path / f"{name}.npy"), fmt="%d", delimiter=",")
        (path / f"{name}.npy").unlink()

    same(read_graph(path), before)


def test_the_identity_follows_the_content_and_what_is_done_with_it(tmp_path):
    path = plain_folder(tmp_path / "g")
    first = read_graph(path).identity(parts=2)

    assert read_graph(path).identity(parts=2) == first
    assert read_graph(path).identity(parts=3) != first
    np.save(path / "labels.npy", np.arange(20) % 2)
    assert read_graph(path).identity(parts=2) != first


def test_splits_of_products_lie_under_their_own_name(tmp_path):
    path = text_ogb(tmp_path)
    (path / "split" / "time").rename(path / "split" / "sales_ranking")

    assert len(read_graph(path).splits["train"]) == 5
    with gzip.open(path / "split" / "sales_ranking" / "train.csv.gz") as file:
        assert file.read()
