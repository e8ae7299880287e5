import json
import shutil

import numpy as np
import pytest
import torch
from graph_world import plain_folder, small

from quatrain.errors import UsageError
from quatrain.graph.dataset import synthetic
from quatrain.graph.dataset.load import read_graph
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.partition import PartitionFacts, partition, read_facts, table

# DGL reads its memory from /proc/self/status without closing it
pytestmark = pytest.mark.filterwarnings("ignore:.*/proc/self/status")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    synthetic.make("community", small().made, place)
    return read_graph(place)


def cut(graph, tmp_path, method="metis", parts=2, folder=None):
    return partition(graph, method=method, parts=parts, undirected=True, folder=folder, cache=tmp_path)


@pytest.fixture(scope="module", params=["metis", "random"])
def parts(request, graph, tmp_path_factory):
    return cut(graph, tmp_path_factory.mktemp("cache"), request.param)


def loaded(parts, index):
    return dgl.distributed.load_partition(str(parts / "graph.json"), index)


def test_every_vertex_is_in_one_part_with_its_own_features_and_label(graph, parts):
    rows, labels = [], []
    for index in range(2):
        _, data, _, _, _, _, _ = loaded(parts, index)
        rows.append(data["_N/features"].numpy())
        labels.append(data["_N/labels"].numpy())
    rows, labels = np.concatenate(rows), np.concatenate(labels)

    order, back = np.lexsort(rows.T), np.lexsort(np.asarray(graph.features).T)
    assert (rows[order] == graph.features[back]).all()
    assert (labels[order] == graph.labels[back]).all()


def test_edges_of_the_parts_are_those_of_the_graph_both_ways_without_loops_or_repeats(graph, parts):
    source, target = graph.edges
    kept = source != target
    both = np.concatenate([graph.edges[:, kept], graph.edges[::-1, kept]], axis=1)
    edges = 0
    for index in range(2):
        structure = loaded(parts, index)[0]
        edges += int(structure.edata["inner_edge"].bool().sum())

    assert edges == len(np.unique(both, axis=1).T) == read_facts(parts).edges


def test_splits_keep_their_vertices_under_the_new_numbers(graph, parts):
    rows = torch.cat([loaded(parts, index)[1]["_N/features"] for index in range(2)]).numpy()
    with np.load(parts / "splits.npz") as splits:
        for name, ids in graph.splits.items():
            ours, theirs = rows[splits[name]], np.asarray(graph.features)[ids]
            assert (ours[np.lexsort(ours.T)] == theirs[np.lexsort(theirs.T)]).all()
            assert (np.diff(splits[name]) > 0).all()


def test_the_table_reports_each_part_and_the_cut(graph, tmp_path):
    facts = PartitionFacts(
        graph="0", method="metis", vertices=30, edges=100, features=2, classes=2, cut=0.25,
        parts=({"inner": 10, "halo": 5, "edges": 40, "train": 3}, {"inner": 20, "halo": 4, "edges": 60, "train": 5}),
    )  # fmt: skip
    text = table(facts)

    assert "50.0%" in text
    assert "25.0% of the edges are cut" in text
    assert "1.33 x the mean" in text


def test_metis_cuts_less_than_chance(graph, tmp_path):
    assert read_facts(cut(graph, tmp_path)).cut < 0.7 * read_facts(cut(graph, tmp_path, "random")).cut


def test_parts_are_found_again_and_not_cut_twice(graph, tmp_path, monkeypatch):
    first = cut(graph, tmp_path)
    monkeypatch.setattr(dgl.distributed, "partition_graph", lambda *_, **__: pytest.fail("cut again"))

    assert cut(graph, tmp_path) == first


def test_a_folder_of_parts_can_be_moved(graph, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(cut(graph, tmp_path / "cache"), moved)

    assert cut(graph, tmp_path / "cache", folder=moved) == moved
    assert "/" not in json.loads((moved / "graph.json").read_text())["part-0"]["part_graph"][:5]
    assert loaded(moved, 1)[0].num_nodes()


def test_the_facts_report_which_parts_cut_edges_and_halo_come_from(graph, tmp_path):
    facts = read_facts(cut(graph, tmp_path))

    for index, part in enumerate(facts.parts):
        assert part["cut_from"][index] == part["halo_from"][index] == 0
        assert sum(part["halo_from"]) == part["halo"]
        assert sum(part["cut_from"]) <= part["edges"]
    assert sum(sum(part["cut_from"]) for part in facts.parts) == pytest.approx(facts.cut * facts.edges)


def test_parts_of_another_graph_are_refused(graph, tmp_path):
    place = cut(graph, tmp_path, folder=tmp_path / "parts")
    other = read_graph(plain_folder(tmp_path / "other"))

    with pytest.raises(UsageError, match=r"parts of another graph or cut .* give another --partition\.folder"):
        cut(other, tmp_path, folder=place)
    with pytest.raises(UsageError, match="another graph or cut"):
        cut(graph, tmp_path, method="random", folder=place)


def test_a_folder_of_other_files_is_left_alone(graph, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")

    with pytest.raises(UsageError, match="other files"):
        cut(graph, tmp_path, folder=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_nothing_is_left_behind_when_cutting_fails(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(dgl.distributed, "partition_graph", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        cut(graph, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_more_parts_than_training_vertices_are_refused(tmp_path):
    graph = read_graph(plain_folder(tmp_path / "g"))

    with pytest.raises(UsageError, match="too few for 6 parts"):
        cut(graph, tmp_path, parts=6)


def test_one_part_is_the_whole_graph(graph, tmp_path):
    facts = read_facts(cut(graph, tmp_path, parts=1))

    assert facts.parts[0]["inner"] == graph.vertices
    assert facts.parts[0]["halo"] == 0
