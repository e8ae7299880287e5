"""The supervisor of processes, with small programs in the place of servers and trainers."""

import os
import socket
import subprocess
import sys
import time

import pytest
from graph_world import keep

from quatrain.errors import UsageError
from quatrain.files import write_json
from quatrain.graph.distdgl import launcher
from quatrain.graph.distdgl.job import SHM, Job
from quatrain.graph.distdgl.launcher import HostSupervisor, ProcessFailed, default_threads, ending, free_ports

PROGRAMS = {
    "quits": "raise SystemExit(0)",
    "fails": "print('something broke'); raise SystemExit(3)",
    "stays": "import time; time.sleep(600)",
    "is_killed": "import os; os.kill(os.getpid(), 9)",
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_json(tmp_path / "parts" / "graph.json", {"part-0": {"part_graph": "part0/graph.dgl"}, "graph_name": "x"})
    job = Job(folder=tmp_path / "run", name="qtest1234", parts=tmp_path / "parts", machines=1, trainers=2)
    job.write()
    return job


def kept(job, server, trainer, machines=(0,)):
    return HostSupervisor(job, machines, "127.0.0.1", {"server": server, "train": trainer})


def alive(supervisor):
    return [child.name for child in supervisor.children if child.process.poll() is None]


def test_a_job_ends_when_all_of_its_processes_have(job):
    supervisor = kept(job, "quits", "quits")
    supervisor.run()

    assert [child.name for child in supervisor.children] == ["server-0", "train-0-0", "train-0-1"]


@pytest.mark.parametrize(("program", "words"), [("fails", "ended with code 3"), ("is_killed", "ended by SIGKILL")])
def test_one_death_ends_all_with_the_end_of_its_log(job, program, words):
    supervisor = kept(job, "stays", program)

    with pytest.raises(ProcessFailed, match=words) as caught:
        supervisor.run()

    assert not alive(supervisor)
    assert program != "fails" or "something broke" in str(caught.value)


def test_a_dead_server_ends_its_trainers(job):
    supervisor = kept(job, "fails", "stays")

    with pytest.raises(ProcessFailed, match="server-0"):
        supervisor.run()
    assert not alive(supervisor)


def test_a_death_on_another_machine_ends_this_one(job):
    supervisor = kept(job, "stays", "stays")
    (job.place / "failed").write_text("server-1 was ended by SIGKILL")

    with pytest.raises(ProcessFailed, match="server-1"):
        supervisor.run()
    assert not alive(supervisor)


def test_shared_memory_of_the_job_is_removed_and_no_other(job):
    mine, other = SHM / "qtest1234m0-feat", SHM / "qtest1235-feat"
    for path in (mine, other):
        path.write_bytes(b"x")
    try:
        kept(job, "quits", "quits").run()
        assert (mine.exists(), other.exists()) == (False, True)
    finally:
        other.unlink()


def test_a_port_in_use_is_reported_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} of 127\.0\.0\.1 .* --cluster\.port"):
            free_ports("127.0.0.1", port, 1)


def test_free_ports_are_distinct_and_follow_the_first():
    first, second = free_ports("127.0.0.1", 0, 2)
    assert first != second


def test_a_supervisor_that_is_killed_takes_its_processes_with_it(job, tmp_path):
    (tmp_path / "tells.py").write_text(
        "import os, pathlib, sys, time\npathlib.Path(sys.argv[1], f'{os.getpid()}.pid').touch()\ntime.sleep(600)\n"
    )
    program = (
        "import sys; from quatrain.graph.distdgl.launcher import HostSupervisor; "
        "from quatrain.graph.distdgl.job import Job; from pathlib import Path; "
        "HostSupervisor(Job.read(Path(sys.argv[1])), [0], '127.0.0.1', "
        "{'server': 'tells', 'train': 'tells'}).run()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(job.folder)]) as supervisor:
        wait_for(lambda: len(list(job.folder.glob("*.pid"))) == 3)
        supervisor.kill()
    for path in job.folder.glob("*.pid"):
        wait_for(lambda pid=int(path.stem): not runs(pid))


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def test_machines_that_do_not_appear_are_named(job, monkeypatch):
    monkeypatch.setattr(launcher, "PATIENCE_S", 0.0)
    two = Job(folder=job.folder, name="qtest1234", parts=job.parts, machines=2, trainers=1)

    with pytest.raises(ProcessFailed, match="machine1"):
        HostSupervisor(two, [0], "127.0.0.1").run()


def test_addresses_of_an_earlier_job_in_the_folder_do_not_count(job, monkeypatch):
    monkeypatch.setattr(launcher, "PATIENCE_S", 0.0)
    two = Job(folder=job.folder, name="qtest1234", parts=job.parts, machines=2, trainers=1)
    write_json(job.place / "machine1.json", {"address": "127.0.0.1", "port": 1, "meeting": 2, "name": "qearlier"})

    with pytest.raises(ProcessFailed, match="machine1"):
        HostSupervisor(two, [0], "127.0.0.1").run()


def test_a_folder_without_a_job_is_a_usage_error(tmp_path):
    with keep(tmp_path, 0) as supervisor:
        assert supervisor.wait(60) == 2
        assert supervisor.stderr.read().startswith(b"quatrain: ")


@pytest.mark.parametrize(("cores", "trainers", "threads"), [(128, 4, 16), (2, 2, 1), (2, 16, 1), (8, 1, 4)])
def test_processes_get_half_of_their_share_of_the_cores_unless_a_number_is_given(cores, trainers, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))

    assert default_threads(trainers) == threads


def test_endings_are_reported_in_words():
    assert ending(-15) == "was ended by SIGTERM"
    assert ending(1) == "ended with code 1"


def test_processes_learn_dgls_part_from_the_job(job):
    variables = job.environment(0, "server")

    assert variables["DGL_NUM_CLIENT"] == "2"
    assert os.path.isabs(variables["DGL_CONF_PATH"])
    assert job.graph_name(0) != job.graph_name(1)
    assert Job.read(job.folder) == job
