from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import site_registry, submit
from quatrain.hpc.placement import place
from quatrain.hpc.run import REQUEUED
from quatrain.hpc.site import Request

REQUEST = Request(account="m1_g", nodes=2, walltime_min=30)


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def command(folder, name, text):
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def options(site, request=REQUEST):
    return submit.directives(place(site_registry.find(site), request), "nas", "/runs/a")


def test_the_job_asks_for_a_signal_in_time_and_may_be_queued_again():
    assert {"--signal=B:USR1@300", "--requeue", "--open-mode=append", "--nodes=2", "--time=30"} <= set(
        options("perlmutter")
    )
    assert {"--account=m1_g", "--qos=debug", "--constraint=gpu", "--gpus-per-node=4"} <= set(options("perlmutter"))
    assert "--output=/runs/a/logs/job-%j.log" in options("perlmutter")
    assert "--exclusive" not in options("perlmutter")


def test_a_short_job_is_asked_to_stop_a_quarter_of_its_time_before():
    assert "--signal=B:USR1@60" in options("perlmutter", Request(account="m1_g", walltime_min=4))


def test_a_generic_cluster_is_asked_for_nothing_that_nobody_named():
    given = options("slurm", Request(nodes=1))

    assert not [word for word in given if "None" in word or word.startswith(("--account", "--gpus", "--cpus"))]
    assert "--exclusive" in given


def drive(tmp_path, bin_dir, monkeypatch, driver, restarts=""):
    """Run the job's script around a driver of ours, signal it, and return its code and what was requeued."""
    command(bin_dir, "scontrol", f'echo "$@" > {tmp_path}/requeued')
    monkeypatch.setattr(submit, "_command", lambda _workflow, _run_dir: [sys.executable, "-c", driver])
    text = submit.job_script(place(site_registry.find("slurm"), Request()), "nas", tmp_path)
    environment = {**os.environ, "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": restarts}
    with subprocess.Popen(["bash", "-c", text], env=environment) as job:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        job.send_signal(signal.SIGUSR1)
        code = job.wait(60)
    requeued = tmp_path / "requeued"
    return code, requeued.read_text().strip() if requeued.exists() else ""


STOPS = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: (time.sleep(0.3), sys.exit({code})));"
    "pathlib.Path({ready!r}).touch(); time.sleep(60)"
)


def test_a_driver_that_stops_in_time_is_queued_again(tmp_path, bin_dir, monkeypatch):
    driver = STOPS.format(code=128 + signal.SIGUSR1, ready=str(tmp_path / "ready"))

    assert drive(tmp_path, bin_dir, monkeypatch, driver) == (0, "requeue 17")


@pytest.mark.parametrize(("restarts", "reported"), [("", "1"), ("49", "1"), ("50", "")])
def test_a_driver_knows_whether_it_will_be_started_again(tmp_path, bin_dir, monkeypatch, restarts, reported):
    driver = STOPS.format(code=138, ready=str(tmp_path / "ready"))
    write = f"import os, pathlib; pathlib.Path({str(tmp_path / 'reported')!r}).write_text(os.environ[{REQUEUED!r}]);"

    drive(tmp_path, bin_dir, monkeypatch, write + driver, restarts)

    assert (tmp_path / "reported").read_text() == reported


def test_a_driver_that_ends_with_its_work_is_not(tmp_path, bin_dir, monkeypatch):
    driver = STOPS.format(code=0, ready=str(tmp_path / "ready"))

    assert drive(tmp_path, bin_dir, monkeypatch, driver) == (0, "")


def test_a_driver_that_fails_is_not(tmp_path, bin_dir, monkeypatch):
    driver = STOPS.format(code=1, ready=str(tmp_path / "ready"))

    assert drive(tmp_path, bin_dir, monkeypatch, driver) == (1, "")


def test_a_run_that_never_ends_leaves_the_queue_at_last(tmp_path, bin_dir, monkeypatch):
    driver = STOPS.format(code=128 + signal.SIGUSR1, ready=str(tmp_path / "ready"))

    code, requeued = drive(tmp_path, bin_dir, monkeypatch, driver, restarts=str(submit.MOST_RESTARTS))

    assert (code, requeued) == (128 + signal.SIGUSR1, "")


def test_the_number_of_the_job_is_returned(tmp_path, bin_dir):
    command(bin_dir, "sbatch", 'test -f "$2" && echo "17;cluster"')

    assert submit.submit(place(site_registry.find("perlmutter"), REQUEST), "nas", tmp_path) == "17"
    assert (tmp_path / "job.sh").read_text().startswith("#!/bin/bash\n#SBATCH")


def test_a_refused_job_is_reported_in_the_schedulers_words(tmp_path, bin_dir):
    command(bin_dir, "sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")

    with pytest.raises(UsageError, match="invalid partition specified: x; change --partition"):
        submit.submit(place(site_registry.find("perlmutter"), REQUEST), "nas", tmp_path)


def test_without_sbatch_or_a_queue_there_is_nothing_to_submit_to(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="no sbatch here"):
        submit.submit(place(site_registry.find("perlmutter"), REQUEST), "nas", tmp_path)
    with pytest.raises(UsageError, match="site 'local' has no queue"):
        submit.check(site_registry.find("local"))
