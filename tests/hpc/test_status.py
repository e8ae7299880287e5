from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from quatrain.errors import UsageError
from quatrain.files import append_line, read_json, write_json
from quatrain.hpc.blocks import FILE, Block
from quatrain.hpc.run import HEARTBEAT, REQUEUED, Run, Terminated
from quatrain.hpc.status import look, report, watch
from quatrain.progress import Meter


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


def test_a_run_is_reported_while_it_lives(run):
    Meter(run.path, "train", total=4).set(4)

    text = report(run.path)

    assert f"nas in {run.path}: running" in text
    assert "tasks: 1 pending, 1 running, 1 done" in text
    assert "train 4/4 (100 %)" in text
    assert "retried: measure-0001 on nid2: WorkerLost: gone" in text
    assert "running measure-0001 on nid1 (try 2)" in text


def test_a_failed_run_reports_its_error(tmp_path):
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

    assert "its driver has ended: continue with --resume" in report(run.path)


def test_a_driver_on_another_computer_is_believed(run):
    facts = read_json(run.path / "run.json")
    facts["driver"] = {"host": "elsewhere", "pid": 2**22 + 1}
    write_json(run.path / "run.json", facts)

    assert ": running," in report(run.path)


def on_another_computer(run, silent_s):
    facts = read_json(run.path / "run.json")
    facts["driver"] = {"host": "elsewhere", "pid": os.getpid()}
    write_json(run.path / "run.json", facts)
    last = time.time() - silent_s
    os.utime(run.path / HEARTBEAT, (last, last))


def test_a_driver_on_another_computer_that_gives_no_sign_of_life_is_gone(run):
    on_another_computer(run, silent_s=61)

    assert "its driver has ended: continue with --resume" in report(run.path)


def test_signs_of_life_are_dated_by_the_file_systems_clock(run, monkeypatch):
    on_another_computer(run, silent_s=30)
    ahead = time.time() + 1000
    monkeypatch.setattr("quatrain.hpc.status.time.time", lambda: ahead)

    assert ": running," in report(run.path)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(run, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("quatrain.hpc.status.tempfile.TemporaryFile", refuse)
    on_another_computer(run, silent_s=30)
    assert ": running," in report(run.path)
    on_another_computer(run, silent_s=90)
    assert "its driver has ended" in report(run.path)


def test_a_run_from_before_there_were_signs_of_life_is_believed(run):
    on_another_computer(run, silent_s=90)
    (run.path / HEARTBEAT).unlink()

    assert ": running," in report(run.path)


def test_torn_files_are_passed_over(run):
    (run.path / "summary.json").write_text('{"sta')
    with (run.path / "events.jsonl").open("a") as file:
        file.write('[1]\n{"time": "now", "sta')

    assert ": unknown," in report(run.path)
    assert "tasks: 1 pending, 1 running, 1 done" in report(run.path)


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a run folder"):
        report(tmp_path)


def block(run, **facts):
    append_line(run.path / FILE, Block(**{"name": "000 gpu 0", "job": "17", **facts}))


def test_blocks_their_nodes_and_the_time_left_are_reported(run):
    now = time.time()
    block(run, queued=now - 700)
    block(run, name="000 block 0", job="18", queued=now)
    block(run, nodes=("nid1", "nid2"), gpus=8, queued=now - 700, began=now - 600, until=now + 1200)

    text = report(run.path)

    assert "gpu 0, job 17: 2 nodes (nid1 nid2), 8 GPUs, for 0:10:0" in text
    assert ", 0:19:5" in text or ", 0:20:00 left" in text
    assert "block 0, job 18: queued" in text
    assert "GPU-hours: 1.33" in text


def test_blocks_of_one_allocation_count_its_gpus_once(run):
    block(run, gpus=4, nodes=("nid1",), began=1000.0, ended=4600.0, how="released")
    block(run, name="000 block 0", gpus=4, nodes=("nid1",), began=2000.0, ended=4600.0, how="released")

    assert look(run.path).gpu_hours == pytest.approx(4)


def test_after_a_killed_driver_blocks_count_until_its_last_word(run):
    block(run, gpus=4, nodes=("nid1",), began=time.time() - 3600)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    facts = read_json(run.path / "run.json")
    facts["driver"]["pid"] = gone.pid
    write_json(run.path / "run.json", facts)

    assert "its end was not seen" in report(run.path)
    assert look(run.path).gpu_hours == pytest.approx(4, abs=0.1)


def test_a_queued_driver_waits(tmp_path):
    run = Run.create("nas", {}, root=tmp_path)
    with run.handing_over():
        run.event("submitted", message="the driver waits in job 17")

    assert "waits in the queue" in report(run.path)
    assert "the driver waits in job 17" in report(run.path)


def test_many_retries_are_reported_by_their_last_ones(run):
    for number in range(20):
        run.event("retried", task=f"measure-{number:04d}", node="nid1", tries=1, message="ManagerLost: gone")

    text = report(run.path)

    assert "13 earlier retries and failures in events.jsonl" in text
    assert text.count("retried: ") == 8


def test_a_watch_in_a_log_reports_every_change_and_ends_with_the_run(tmp_path):
    with Run.create("nas", {}, root=tmp_path) as run:
        stream = io.StringIO()
        watcher = threading.Thread(target=watch, args=(run.path, stream))
        watcher.start()
        deadline = time.monotonic() + 30
        while "running" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    watcher.join(30)

    assert not watcher.is_alive()
    assert stream.getvalue().rstrip().endswith("done run")
    assert "\x1b" not in stream.getvalue()


def test_a_watch_stays_while_a_driver_waits_to_be_started_again(tmp_path, monkeypatch):
    monkeypatch.setenv(REQUEUED, "1")
    run = Run.create("nas", {}, root=tmp_path)
    with pytest.raises(Terminated), run:
        signal.raise_signal(signal.SIGUSR1)
    stream = io.StringIO()
    watcher = threading.Thread(target=watch, args=(run.path, stream), daemon=True)

    watcher.start()
    watcher.join(3)  # longer than one look
    assert watcher.is_alive()
    assert "interrupted for a while (its job waits in the queue again)" in stream.getvalue()

    with Run.resume(run.path, "nas", {}):
        assert "requeued" not in read_json(run.path / "summary.json")
    watcher.join(30)
    assert not watcher.is_alive()


def test_a_driver_that_nobody_starts_again_is_interrupted_for_good(tmp_path, monkeypatch):
    monkeypatch.delenv(REQUEUED, raising=False)
    with pytest.raises(Terminated), Run.create("nas", {}, root=tmp_path) as run:
        signal.raise_signal(signal.SIGUSR1)

    assert look(run.path).name == "interrupted"


def test_a_watch_on_a_terminal_paints_over_itself(tmp_path):
    with Run.create("nas", {}, root=tmp_path) as run:
        pass
    terminal, inside = pty.openpty()
    argv = [sys.executable, "-m", "quatrain.workflows", "status", str(run.path), "--watch"]

    subprocess.run(argv, stdout=inside, check=True, timeout=60)

    assert os.read(terminal, 1 << 16).startswith(b"\x1b[H\x1b[2Jnas in ")


def test_torn_blocks_are_passed_over(run):
    block(run, gpus=4)
    with (run.path / FILE).open("a") as file:
        file.write(json.dumps({"name": "000 gpu 1"}) + '\n{"name": "000')

    assert len(look(run.path).blocks) == 1
