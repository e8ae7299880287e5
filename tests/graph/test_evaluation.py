"""Accuracy over all trainers, with DistDGL's own servers and trainers as processes."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_world import small
from hypothesis import given
from hypothesis import strategies as st

from quatrain.files import read_json
from quatrain.graph import stages
from quatrain.graph.config import CacheConfig, PartitionConfig
from quatrain.graph.dataset.load import open_graph
from quatrain.graph.dataset.ogb_package import accuracy, ogb_table
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.launcher import HostSupervisor
from quatrain.graph.model import build_network
from quatrain.graph.study import GnnStudy

pytestmark = pytest.mark.filterwarnings("ignore:.*/proc/self/status")  # DGL reads its memory without closing the file


def settings(machines, trainers, **train):
    config = small(**{"epochs": 1, "evaluate_every": 0, **train})
    return replace(
        config,
        cluster=replace(config.cluster, machines=machines, trainers=trainers),
        partition=PartitionConfig(method="random"),
        buffer=CacheConfig(policy="none"),
    )


def trained(folder, config, parts, checkpoint=None):
    """Return the folder of a training from a checkpoint that leaves nothing to train, or from the start."""
    job = stages.start(folder, config, 0, parts)
    if checkpoint:
        (folder / "checkpoints").mkdir()
        shutil.copy(checkpoint, folder / "checkpoints" / "gnn.pt")
    HostSupervisor(job, range(job.machines), "127.0.0.1").run()
    return read_json(folder / "result.json")["test_accuracy"]


def right_vertices(config, checkpoint, graph):
    """Return which test vertices the network labels rightly on the whole graph at once, without a partition."""
    source, target = (torch.from_numpy(row) for row in graph.edges)
    whole = dgl.to_simple(dgl.graph((torch.cat([source, target]), torch.cat([target, source])),
                                    num_nodes=graph.vertices))  # fmt: skip
    whole = dgl.remove_self_loop(whole)
    model = build_network(config.train, graph.features.shape[1], graph.classes)
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["model"])
    model.eval()
    with torch.no_grad():
        blocks = [whole] * len(config.train.fanout)
        scores = model(blocks, torch.from_numpy(np.array(graph.features[:], np.float32)))
    return (scores.argmax(1).numpy() == graph.labels)[graph.splits["test"]]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shapes"), [("sage", [(1, 1), (2, 1), (1, 3)]), ("gat", [(2, 2)])])
def test_the_accuracy_of_the_same_weights_is_that_of_the_whole_graph_for_any_trainers(model, shapes, tmp_path):
    first = settings(1, 1, model=model)
    parts = {machines: Path(stages.prepare(settings(machines, 1), tmp_path / "cache")["parts"]) for machines in (1, 2)}
    trained(tmp_path / "weights", first, parts[1])
    checkpoint = GnnStudy.read(tmp_path / "weights").checkpoint
    right = right_vertices(first, checkpoint, open_graph(first, tmp_path / "cache"))

    for machines, trainers in shapes:
        config = settings(machines, trainers, model=model)
        figure = trained(tmp_path / f"{machines}x{trainers}", config, parts[machines], checkpoint)
        assert figure == right.sum() / len(right)

    assert 0 < right.sum() < len(right)


@pytest.mark.slow
def test_fewer_test_vertices_than_trainers_count_once_each(tmp_path):
    config = settings(1, 3)
    parts = Path(stages.prepare(config, tmp_path / "cache")["parts"])
    with np.load(parts / "splits.npz") as splits:
        np.savez(parts / "splits.npz", train=splits["train"], valid=splits["valid"], test=splits["test"][:2])

    assert trained(tmp_path / "run", config, parts) in {0.0, 0.5, 1.0}


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_figure_is_a_fraction_of_the_vertices_to_the_last_digit(count, seed):
    true, predicted = np.random.default_rng(seed).integers(3, size=(2, count))

    assert accuracy(true, predicted) == int((true == predicted).sum()) / count


def test_the_table_of_ogb_names_tasks_classes_and_the_published_split():
    table = ogb_table()

    assert (table["ogbn_arxiv"].classes, table["ogbn_arxiv"].split, table["ogbn_arxiv"].metric) == (40, "time", "acc")
    assert (table["ogbn_proteins"].tasks, table["ogbn_proteins"].metric) == (112, "rocauc")
    assert table["ogbn_mag"].heterogeneous
    assert table["ogbn_papers100M"].binary


def test_ogb_is_used_without_network_and_without_questions():
    program = """
import socket, sys, threading
def refused(*_, **__): raise AssertionError("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
sys.stdin.close()
import numpy as np
from quatrain.graph.dataset.ogb_package import accuracy
before = threading.active_count()
print(accuracy(np.array([0, 1, 1]), np.array([0, 1, 0])), threading.active_count() - before, "outdated" in sys.modules)
"""
    environment = {key: value for key, value in os.environ.items() if key != "OUTDATED_IGNORE"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [str(2 / 3), "0", "False"]
