"""The gnn workflow over the nodes of a block: servers and trainers by srun, no ssh."""

from __future__ import annotations

from quatrain.files import read_json

GNN = ("-m", "quatrain.workflows", "gnn")
SMALLEST = (
    *("--made.vertices", "600", "--made.features", "8", "--train.epochs", "2", "--train.batch", "60"),
    *("--train.evaluate-every", "0", "--compare", "none", "--cluster.machines", "2"),
)


def test_machines_of_a_graph_start_by_srun_one_on_each_node_and_train_together(start):
    driver = start(*SMALLEST, "--nodes", "2", "--walltime", "10", program=GNN)

    assert driver.code() == 0, driver.said
    cluster = driver.run_dir / "cluster"
    keepers = [line.split()[-1] for line in (cluster / "srun.conf").read_text().splitlines()]
    assert keepers == ["0", "1"]
    addresses = [read_json(cluster / f"machine{number}.json") for number in range(2)]
    assert addresses[0]["port"] != addresses[1]["port"]
    assert {path.name for path in (driver.run_dir / "logs").glob("*-[01]*.log")} == {
        *("server-0.log", "server-1.log", "train-0-0.log", "train-1-0.log")
    }
    summary = driver.summary()
    assert (summary["state"], summary["policy"], len(summary["epochs"])) == ("done", "belady", 2)
    assert not driver.jobs()
