from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import commands
from quatrain.hpc.allocation import Allocation
from quatrain.hpc.process_guard import end
from quatrain.hpc.srun import SRUN_OPTIONS, srun_argv

TWO = Allocation(job_id="7", nodes=("nid1", "nid2"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def on_nodes(arguments, allocation, processes, gpus=0, container=()):
    command = commands.torchrun_on_nodes(arguments, allocation, processes, container)
    return srun_argv(allocation, command, {SRUN_OPTIONS: "--gpu-bind=none"}, gpus=gpus)


def test_a_sites_options_for_srun_come_from_the_workers_environment_alone():
    assert not [word for word in srun_argv(TWO, ["hostname"], {}) if word.startswith("--gpu-bind")]


def test_torchrun_stays_on_this_machine():
    argv = commands.torchrun_argv(["-m", "quatrain.nas.train", Path("/runs/a b")], processes=2)

    assert argv[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert {"--standalone", "--nproc-per-node=2"} <= set(argv)
    assert argv[-3:] == ["-m", "quatrain.nas.train", "/runs/a b"]


def test_srun_starts_one_torchrun_on_each_node_and_they_meet_on_the_first():
    argv = on_nodes(["-m", "quatrain.nas.train"], TWO, processes=4, gpus=4)

    assert argv[0] == "srun"
    assert {"--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--gpus-per-node=4"} <= set(argv)
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-id=7"} <= set(argv)
    (endpoint,) = [word for word in argv if word.startswith("--rdzv-endpoint=")]
    assert int(endpoint.rpartition(":")[2]) > 1023
    assert argv.index("--gpu-bind=none") < argv.index(sys.executable)


def test_in_a_container_its_own_python_runs():
    argv = on_nodes(["-m", "this"], TWO, processes=1, container=["shifter", "--image=docker:a:1"])

    start = argv.index("shifter")
    assert argv[start : start + 4] == ["shifter", "--image=docker:a:1", "python3", "-m"]


def test_without_gpus_srun_asks_for_none():
    assert not any("gpus-per-node" in word for word in on_nodes([], TWO, processes=1))


@pytest.mark.parametrize(("marked", "program"), [(True, "srun"), (False, sys.executable)])
def test_only_workers_of_a_slurm_site_start_programs_with_srun(tmp_path, monkeypatch, marked, program):
    started = {}
    monkeypatch.setattr(
        commands, "run", lambda argv, log, environment: started.update(argv=argv, log=log, **environment)
    )
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[1-2]")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.delenv(SRUN_OPTIONS, raising=False)
    if marked:
        monkeypatch.setenv(SRUN_OPTIONS, "")

    commands.launch(["-m", "this"], processes=4, log=tmp_path / "log")

    assert started["argv"][0] == program
    assert started["OMP_NUM_THREADS"] == "2"
    assert ("SLURM_NTASKS" in started) == (program != "srun")


@pytest.mark.parametrize("marked", [True, False], ids=["srun", "local"])
def test_programs_of_a_site_with_a_container_start_inside_of_it_wherever_they_run(tmp_path, monkeypatch, marked):
    started = []
    monkeypatch.setattr(commands, "run", lambda argv, **_: started.append(argv))
    monkeypatch.setenv(commands.CONTAINER, "apptainer exec '/images/a b.sif'")
    monkeypatch.delenv(SRUN_OPTIONS, raising=False)
    if marked:
        monkeypatch.setenv(SRUN_OPTIONS, "")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[1-2]")

    commands.launch(["-m", "this"], processes=1, log=tmp_path / "log")
    commands.python(["-m", "this"], log=tmp_path / "log")

    for argv in started:
        start = argv.index("apptainer")
        assert argv[start : start + 5] == ["apptainer", "exec", "/images/a b.sif", "python3", "-m"]
        assert sys.executable not in argv


def test_a_step_is_given_the_processors_of_its_nodes():
    known = dataclasses.replace(TWO, cpus_per_node=64)

    assert "--cpus-per-task=64" in on_nodes([], known, processes=1)
    assert not [word for word in on_nodes([], TWO, processes=1) if word.startswith("--cpus")]


@pytest.mark.parametrize(("number", "kind"), [(28, UsageError), (13, UsageError), (2, commands.CommandError)])
def test_a_program_that_the_disk_refuses_is_reported_in_one_line(tmp_path, number, kind):
    with pytest.raises((UsageError, commands.CommandError)) as failure:
        commands.python(["-c", f"raise OSError({number}, 'No such luck', '/runs/a.pt')"], log=tmp_path / "log")

    assert type(failure.value) is kind
    assert "No such luck: '/runs/a.pt'" in str(failure.value)
    assert ("\n" in str(failure.value)) == (kind is commands.CommandError)


def test_the_output_goes_to_the_log_which_is_continued(tmp_path):
    log = tmp_path / "logs" / "train.log"

    commands.python(["-c", "print('one')"], log=log)
    commands.python(["-c", "import sys; print('two', file=sys.stderr)"], log=log)

    assert log.read_text() == "one\ntwo\n"


def test_a_failure_shows_the_end_of_its_own_log(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("of an earlier run\n")

    with pytest.raises(commands.CommandError, match="ended with code 3") as failure:
        commands.python(["-c", "for i in range(99): print('line', i)\nraise SystemExit(3)"], log=log)

    assert "line 98" in str(failure.value)
    assert "line 9\n" not in str(failure.value)
    assert "earlier" not in str(failure.value)


def test_a_program_that_complains_of_the_users_input_is_quoted(tmp_path):
    with pytest.raises(UsageError, match=r"^width is 3; it must be even$"):
        commands.python(
            ["-c", "print('quatrain: width is 3; it must be even'); raise SystemExit(2)"], log=tmp_path / "log"
        )


def test_an_end_by_a_signal_is_reported(tmp_path):
    with pytest.raises(commands.CommandError, match="ended by signal 9"):
        commands.python(["-c", "import os; os.kill(os.getpid(), 9)"], log=tmp_path / "log")


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(commands.CommandError, match="no-such-program does not start"):
        commands.run(["no-such-program"], log=tmp_path / "log")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_whole_program_ends_when_its_parent_does(tmp_path, number):
    pids, log = tmp_path / "pids", tmp_path / "log"
    inner = (
        "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '60']);"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} '); time.sleep(60)"
    )
    outer = (
        "import pathlib; from quatrain.hpc import commands;"
        f"commands.python(['-c', {inner!r}], log=pathlib.Path({str(log)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", outer], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pids.exists() and pids.read_text().endswith(" ")) and time.monotonic() < deadline:
        time.sleep(0.05)
    program, child = map(int, pids.read_text().split())

    os.kill(parent.pid, number)
    parent.wait(30)

    assert gone_within(program, 10)
    assert gone_within(child, 10)


def test_what_does_not_end_when_asked_is_killed():
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdout is not None
        program.stdout.readline()

        end(program.pid, grace_s=0.2)

        assert program.wait(10) == -signal.SIGKILL


def test_ending_a_group_that_is_gone_is_no_error():
    with subprocess.Popen(["true"], start_new_session=True) as program:
        program.wait()

    end(program.pid)


def test_a_program_that_ends_with_its_nodes_is_not_to_blame(monkeypatch, tmp_path):
    waited = []
    monkeypatch.setenv("QUATRAIN_END", str(time.time() - 1))
    monkeypatch.setattr(commands.time, "sleep", waited.append)

    with pytest.raises(commands.CommandError):
        commands.run([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "log")

    assert commands.KILL_WAIT_S in waited
