from __future__ import annotations

import subprocess

import pytest

from quatrain.errors import UsageError
from quatrain.hpc.run import Run
from quatrain.hpc.status import report
from quatrain.progress import Meter
from quatrain.records import read_json, write_json


@pytest.fixture
def run(tmp_path):
    with Run.create("nas", {}, root=tmp_path) as opened:
        for number in range(3):
            opened.event("pending", task=f"measure-{number:04d}")
        opened.event("running", task="measure-0000", node="nid1", tries=1)
        opened.event("done", task="measure-0000", node="nid1", tries=1)
        opened.event("running", task="measure-0001", node="nid2", tries=1)
        opened.event("retried", task="measure-0001", node="nid2", tries=1, message="WorkerLost: gone")
        opened.event("running", task="measure-0001", node="nid1", tries=2)
        yield opened


def test_a_run_is_told_while_it_lives(run):
    Meter(run.path, "train", total=4).set(4)

    text = report(run.path)

    assert f"nas in {run.path}: running" in text
    assert "tasks: 1 pending, 1 running, 1 done" in text
    assert "train 4/4 (100 %)" in text
    assert "retried: measure-0001 on nid2: WorkerLost: gone" in text
    assert "running measure-0001 on nid1 (try 2)" in text


def test_a_failed_run_tells_its_error(tmp_path):
    run = Run.create("nas", {}, root=tmp_path)
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0

    assert "failed" in report(run.path)
    assert "error: ZeroDivisionError: division by zero" in report(run.path)
    assert "tasks: none yet" in report(run.path)


def test_a_driver_that_was_killed_is_noticed(run):
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    facts = read_json(run.path / "run.json")
    facts["driver"]["pid"] = gone.pid
    write_json(run.path / "run.json", facts)

    assert "its driver is gone: go on with --resume" in report(run.path)


def test_a_driver_on_another_computer_is_believed(run):
    facts = read_json(run.path / "run.json")
    facts["driver"] = {"host": "elsewhere", "pid": 2**22 + 1}
    write_json(run.path / "run.json", facts)

    assert ": running," in report(run.path)


def test_torn_files_are_passed_over(run):
    (run.path / "summary.json").write_text('{"sta')
    with (run.path / "events.jsonl").open("a") as file:
        file.write('[1]\n{"time": "now", "sta')

    assert ": unknown," in report(run.path)
    assert "tasks: 1 pending, 1 running, 1 done" in report(run.path)


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no run folder"):
        report(tmp_path)
