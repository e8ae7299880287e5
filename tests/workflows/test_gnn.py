"""The gnn workflow as its users run it."""

import subprocess
import sys

import numpy as np
import pytest

from quatrain.files import read_json
from quatrain.graph.config import mini
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter
from quatrain.workflows import gnn


@pytest.mark.slow
def test_with_a_small_made_graph_it_runs_from_partition_to_report(tmp_path):
    flags = ["--made.vertices=600", "--made.features=8", "--train.epochs=2", "--train.batch=60", "--compare", "none"]

    answer = subprocess.run(
        [sys.executable, gnn.__file__, *flags, "--run-root", str(tmp_path)], capture_output=True, text=True, timeout=600
    )

    assert answer.returncode == 0, answer.stderr
    (folder,) = tmp_path.glob("gnn-*")
    summary = read_json(folder / "summary.json")
    assert (summary["workflow"], summary["state"], summary["policy"]) == ("gnn", "done", mini().buffer.policy)
    contract = {"seconds", "sample_s", "pull_s", "lookup_s", "train_s", "halo_hit_rate", "remote_hit_rate"}
    assert all(contract | {"remote_bytes", "loss"} <= row.keys() for row in summary["epochs"])
    assert 0 <= summary["test_accuracy"] <= 1
    assert "of the edges are cut" in answer.stdout
    assert (folder / "report.html").exists()
    assert [path.name for path in (folder / "policies").iterdir()] == ["none"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--buffer.fraction", "1.5"], "fraction is 1.5"),
        (["--buffer.policy", "paper", "--buffer.interval", "0"], "interval is 0"),
        (["--buffer.policy", "belad"], "did you mean 'belady'"),
        (["--cluster.port", "80"], "port is 80"),
        (["--data", "made:tree"], "made:community"),
        (["--compare", "best"], "policy 'best'"),
        (["tune", "nowhere.h5"], "there is no trace nowhere.h5"),
        (["tune", "nowhere.h5", "--mbit-s", "0"], "mbit_s is 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(flags, words, tmp_path, capsys):
    root = [] if flags[0] == "tune" else ["--run-root", str(tmp_path / "runs")]

    assert gnn.main([*flags, *root]) == 2

    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("site", ["local", "slurm", "perlmutter"])
def test_a_dry_run_describes_the_work_without_doing_any(site, tmp_path, capsys):
    account = ["--account", "m1234_g"] if site == "perlmutter" else []

    code = gnn.main(["--dry-run", "--site", site, *account, "--run-root", str(tmp_path / "runs")])

    said = capsys.readouterr().out
    assert code == 0
    assert "partition" in said
    assert "train" in said
    assert not (tmp_path / "runs").exists()


def test_machines_that_do_not_fit_the_nodes_are_reported_before_anything_waits(tmp_path, capsys):
    flags = ["--site", "slurm", "--nodes", "3", "--cluster.machines", "4", "--run-root", str(tmp_path / "runs")]

    for more in ([], ["--dry-run"], ["--submit"]):
        assert gnn.main([*flags, *more]) == 2
        assert "4 machines do not fit 3 nodes evenly: give another --cluster.machines" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_planning_imports_neither_torch_nor_dgl():
    code = (
        "import sys; from quatrain.workflows import gnn; gnn.main(['--dry-run']); "
        "print({'torch', 'dgl'} & set(sys.modules))"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip().endswith("set()")


def test_a_trace_is_ranked_on_the_command_line(tmp_path, capsys):
    halo = HaloTable(np.arange(10, 30), np.ones(20, int))
    with TraceWriter(tmp_path / "t.h5", TraceSetup(halo=halo, dim=4, vertex_count=40)) as writer:
        for step in range(6):
            writer.step(np.arange(10 + step, 20 + step), 5)
            writer.times(sample_s=0.01, train_s=0.02)

    words = ["tune", str(tmp_path / "t.h5"), "--policies", "lfu", "belady", "--out", str(tmp_path / "r.json")]
    assert gnn.main(words) == 0

    said = capsys.readouterr()
    assert "halo hits %" in said.out
    assert {row["buffer"]["policy"] for row in read_json(tmp_path / "r.json")} == {"lfu", "belady"}
    assert "replayed" in said.err


def test_the_plan_counts_the_policies_to_compare_with():
    assert [(step.name, step.count) for step in gnn.plan(mini())] == [("partition", 1), ("train", 2)]
