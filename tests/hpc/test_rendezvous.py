from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import rendezvous
from quatrain.hpc.rendezvous import Group, by_mpi, free_port, meet, meeting_point, reachable


class Comm:
    """An MPI communicator of processes of which this one calls last."""

    def __init__(self, rank, others):
        self._rank, self._others = rank, others

    def Get_rank(self):  # noqa: N802 - mpi4py's name
        return self._rank

    def Get_size(self):  # noqa: N802 - mpi4py's name
        return len(self._others) + 1

    def allgather(self, mine):
        return [*self._others[: self._rank], mine, *self._others[self._rank :]]

    def bcast(self, value, root):
        assert root == 0
        return 4711 if value is None else value


def test_a_single_process_meets_nobody():
    group = meet("runs/a", {})

    assert (group.rank, group.ranks, group.addresses, group.run_dir) == (0, 1, ("127.0.0.1",), "runs/a")


def test_torchruns_variables_come_first():
    reported = {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "a",
        "PMI_RANK": "0",
    }

    group = meet("r", {**reported, "MASTER_PORT": "99"})

    assert (group.rank, group.ranks, group.local_rank, group.local_ranks, group.port) == (3, 8, 1, 2, 99)
    assert group.variables().items() >= {"RANK": "3", "MASTER_ADDR": "a", "MASTER_PORT": "99"}.items()


def test_under_plain_srun_all_compute_the_same_port():
    shared = {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_ID": "2",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "localhost",
    }

    groups, others = together(shared, ["r"] * 4), together({**shared, "SLURM_STEP_ID": "3"}, ["r"] * 4)

    assert [group.rank for group in groups] == [0, 1, 2, 3]
    assert len({(group.port, group.addresses) for group in groups}) == 1
    assert groups[0].addresses == ("localhost",)
    assert others[0].port != groups[0].port


def together(shared, run_dirs):
    """What ranks of a step return or raise that meet at the same time."""

    def one(rank):
        try:
            return meet(run_dirs[rank], {**shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)})
        except UsageError as error:
            return error

    with ThreadPoolExecutor(len(run_dirs)) as pool:
        return list(pool.map(one, range(len(run_dirs))))


def test_under_plain_srun_different_run_folders_are_refused_by_every_rank():
    shared = {
        "SLURM_JOB_ID": "78",
        "SLURM_STEP_ID": "1",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "localhost",
    }

    for error in together(shared, ["runs/a", "runs/a", "runs/b"]):
        assert str(error) == "the processes were given different run folders: 'runs/a', 'runs/b'"


def test_a_rank_that_never_comes_is_reported(monkeypatch):
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.2)
    alone = {
        "SLURM_JOB_ID": "79",
        "SLURM_STEP_ID": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
    }

    with pytest.raises(UsageError, match="1 of 2 processes met at localhost:"):
        meet("r", {**alone, "SLURM_PROCID": "0"})
    with pytest.raises(UsageError, match="the first process does not answer at localhost:"):
        meet("r", {**alone, "SLURM_PROCID": "1"})


def test_mpi_without_mpi4py_is_reported_in_one_line(tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')\n")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin", "PMI_RANK": "0"}
    argv = [sys.executable, "-m", "quatrain.hpc.rendezvous", "-m", "reported", "RUN"]

    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("quatrain: PMI_RANK says that MPI started this process, but mpi4py cannot be used")
    assert "pip install mpi4py" in done.stderr


def test_an_allocation_around_a_single_process_is_no_group():
    assert meet("", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}).ranks == 1


def test_mpi_gives_every_rank_its_place_on_its_computer(monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "nid2")

    group = by_mpi(Comm(2, [("10.0.0.1", "nid1", "r"), ("10.0.0.1", "nid1", "r"), ("10.0.0.2", "nid2", "r")]), "r")

    assert (group.rank, group.ranks, group.local_rank, group.local_ranks, group.port) == (2, 4, 0, 2, 4711)
    assert len(group.addresses) == 4
    assert group.addresses[0] == "10.0.0.1"


def test_different_run_folders_are_refused():
    with pytest.raises(UsageError, match=r"different run folders: 'a', 'b'"):
        by_mpi(Comm(1, [("10.0.0.1", "nid1", "a")]), "b")


def test_a_free_port_can_be_listened_on():
    with socket.socket() as server:
        server.bind(("", free_port()))


def test_a_node_without_a_name_is_reached_by_this_computers(monkeypatch):
    monkeypatch.setattr(rendezvous, "own_address", lambda: "10.1.2.3")
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")

    assert reachable("localhost") == "localhost"
    assert reachable("no-such-node.invalid") == "localhost"
    monkeypatch.setattr(socket, "gethostname", lambda: "nameless.invalid")
    assert reachable("no-such-node.invalid") == "10.1.2.3"
    assert meeting_point("no-such-node.invalid").startswith("10.1.2.3:")


def test_the_program_starts_with_torchruns_variables(tmp_path):
    (tmp_path / "reported.py").write_text("import os, sys; print(os.environ['WORLD_SIZE'], sys.argv[1:])")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"}
    argv = [sys.executable, "-m", "quatrain.hpc.rendezvous", "-m", "reported", "RUN", "--role", "x"]

    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)

    assert done.stdout.strip() == "1 ['RUN', '--role', 'x']"


def test_without_a_module_the_usage_is_reported():
    with pytest.raises(UsageError, match="usage"):
        rendezvous.main(["train"], {})


@pytest.mark.slow
def test_mpiexec_starts_processes_that_agree(tmp_path):
    """With the mpiexec that lies beside this Python, as PyPI's mpich has it."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("no mpiexec beside this Python: pip install mpich mpi4py")
    program = (
        "import pathlib; from quatrain.hpc.rendezvous import meet; g = meet('r');"
        "pathlib.Path(f'rank{g.rank}').write_text(f'{g.ranks} {g.addresses[0]} {g.port}')"
    )

    argv = [str(mpiexec), "-n", "3", sys.executable, "-c", program]
    subprocess.run(argv, check=True, cwd=tmp_path, timeout=120)

    reported = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert reported.keys() == {"rank0", "rank1", "rank2"}
    assert len(set(reported.values())) == 1
    assert reported["rank0"].startswith("3 ")


def test_a_group_of_one_is_the_default():
    assert Group().variables()["WORLD_SIZE"] == "1"


@pytest.mark.parametrize(
    ("addresses", "resolved", "expected"),
    [
        (("node1", "node2"), "10.0.0.1", "node1"),
        (("node1", "node2"), "127.0.1.1", ""),
        (("node1", "node1"), "127.0.1.1", "node1"),
    ],
)
def test_a_host_that_knows_itself_by_the_loop_alone_is_found_by_others(addresses, resolved, expected, monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: resolved)

    assert rendezvous.listening(addresses) == expected
