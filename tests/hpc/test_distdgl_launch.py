import shlex
from pathlib import Path

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import commands, distdgl_launch
from quatrain.hpc.srun import SRUN_OPTIONS


@pytest.fixture
def ran(monkeypatch):
    """What would be run, as (argument list, environment)."""
    calls = []
    monkeypatch.setattr(commands, "run", lambda argv, environment=None, **_: calls.append((list(argv), environment)))
    for name in (SRUN_OPTIONS, commands.CONTAINER, "SLURM_JOB_ID", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_without_slurm_one_keeper_looks_after_all_machines(ran, tmp_path):
    distdgl_launch.launch(tmp_path, 3, log=tmp_path / "log")

    ((argv, _),) = ran
    assert argv[1:] == ["-m", "quatrain.graph.distdgl.launcher", str(tmp_path), "0", "1", "2"]


def test_on_a_block_srun_starts_a_keeper_on_each_node_with_its_machines(ran, tmp_path, monkeypatch):
    monkeypatch.setenv(SRUN_OPTIONS, "--gpu-bind=none")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[001-002]")
    monkeypatch.setenv("SLURM_NTASKS", "9")

    distdgl_launch.launch(tmp_path / "a run", 4, log=tmp_path / "log")

    ((argv, environment),) = ran
    lines = [shlex.split(line) for line in Path(argv[-1]).read_text().splitlines()]
    assert [(line[0], line[-2:]) for line in lines] == [("0", ["0", "1"]), ("1", ["2", "3"])]
    assert lines[0][-3] == str(tmp_path / "a run")
    assert {"--nodes=2", "--nodelist=nid001,nid002", "--kill-on-bad-exit=1", "--overlap"} <= set(argv)
    assert "SLURM_NTASKS" not in environment


def test_in_a_container_the_keepers_are_its_own_python_and_have_all_processors(ran, tmp_path, monkeypatch):
    monkeypatch.setenv(commands.CONTAINER, "podman-hpc run 'an image'")
    distdgl_launch.launch(tmp_path, 2, log=tmp_path / "log")
    monkeypatch.setenv(SRUN_OPTIONS, "--gpu-bind=none")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[001-002]")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "64(x2)")

    distdgl_launch.launch(tmp_path, 2, log=tmp_path / "log")

    start = ["podman-hpc", "run", "an image", "python3", "-m", "quatrain.graph.distdgl.launcher", str(tmp_path)]
    assert ran[0][0] == [*start, "0", "1"]
    lines = [shlex.split(line) for line in Path(ran[1][0][-1]).read_text().splitlines()]
    assert lines == [["0", *start, "0"], ["1", *start, "1"]]
    assert "--cpus-per-task=64" in ran[1][0]


def test_nodes_beyond_the_last_machine_stay_idle_and_uneven_shares_are_refused():
    assert distdgl_launch.deal(2, ["a", "b", "c"]) == [[0], [1]]
    with pytest.raises(UsageError, match="5 machines do not fit 2 nodes"):
        distdgl_launch.deal(5, ["a", "b"])
