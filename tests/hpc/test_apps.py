"""Tasks on real worker processes: one session for the whole file, because its start takes seconds."""

from __future__ import annotations

import math
import operator
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import wait

import pytest

from quatrain.errors import UsageError
from quatrain.files import read_lines
from quatrain.hpc import site_registry, tasks
from quatrain.hpc.apps import Workers, open_workers
from quatrain.hpc.placement import find_placement, place
from quatrain.hpc.run import Run
from quatrain.hpc.site import Request
from quatrain.hpc.worker import TaskError

ENOUGH_S = 180


def events(run, name):
    lines = read_lines(run.path / "events.jsonl")
    return [line for line in lines if line["task"] and line["task"].rpartition("-")[0] == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with Run.create("nas", {"n": 1}, root=tmp_path_factory.mktemp("runs")) as opened:
        yield opened


@pytest.fixture(scope="module")
def workers(run):
    with open_workers(run, place(site_registry.find("local"), Request())) as opened:
        yield opened


@pytest.fixture
def threads(tmp_path):
    with (
        Run.create("nas", {"n": 2}, root=tmp_path) as opened,
        open_workers(opened, place(site_registry.find("local-threads"), Request())) as pool,
    ):
        yield pool


def test_both_shapes_run_in_processes_of_their_own(workers):
    on_gpu = workers.app(tasks.probe, shape="gpu", name="probe_gpu")()
    on_block = workers.app(tasks.probe, shape="block", name="probe_block")()

    seen = [future.result(ENOUGH_S) for future in (on_gpu, on_block)]

    assert len({os.getpid(), *(place["pid"] for place in seen)}) == 3
    assert workers.count("block") == 1
    assert workers.count("gpu") == site_registry.find("local").gpu_workers


def test_a_task_is_followed_from_pending_to_done(workers, run):
    workers.app(tasks.probe, shape="gpu", name="followed", remember=False)().result(ENOUGH_S)

    lines = events(run, "followed")

    assert [line["state"] for line in lines] == ["pending", "running", "done"]
    assert lines[1]["node"] == lines[2]["node"] != ""
    assert lines[2]["try"] == 1


def test_a_long_task_is_reported_as_running_while_it_runs(workers, run):
    future = workers.app(time.sleep, shape="gpu", name="long")(3)
    deadline = time.monotonic() + ENOUGH_S
    while len(events(run, "long")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not future.done()
    assert events(run, "long")[-1]["state"] == "running"
    future.result(ENOUGH_S)


def test_what_a_body_raises_about_its_values_arrives_as_it_is(workers):
    with pytest.raises(ValueError, match=r"domain|nonnegative"):
        workers.app(math.sqrt, shape="gpu")(-1.0).result(ENOUGH_S)


def test_any_other_exception_names_task_and_place_and_is_not_tried_again(workers, run):
    with pytest.raises(TaskError, match=r"task truediv-0001 failed on \S+: ZeroDivisionError"):
        workers.app(operator.truediv, shape="gpu")(1, 0).result(ENOUGH_S)

    assert "retried" not in {line["state"] for line in events(run, "truediv")}
    assert events(run, "truediv")[-1]["message"].startswith("ZeroDivisionError")


def test_a_task_that_kills_its_worker_is_tried_again_but_not_for_ever(workers, run):
    with pytest.raises(TaskError, match="after 4 tries: WorkerLost"):
        workers.app(os._exit, shape="gpu", name="deadly")(1).result(ENOUGH_S)

    states = Counter(line["state"] for line in events(run, "deadly"))
    assert (states["retried"], states["failed"]) == (3, 1)
    assert all("loss of worker" in line["message"] for line in events(run, "deadly") if line["state"] == "retried")


def test_a_killed_worker_costs_nothing_but_time(workers, run):
    wait_for = workers.app(time.sleep, shape="block", name="killed")
    future = wait_for(2)
    deadline = time.monotonic() + ENOUGH_S
    while len(events(run, "killed")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    victim = next(
        line for path in workers._reports.folder.glob("*.jsonl") for line in _with_pid(path) if line[0] == "killed-0001"
    )

    os.kill(victim[1], signal.SIGKILL)

    assert future.result(ENOUGH_S) is None
    assert [line["state"] for line in events(run, "killed")] == ["pending", "running", "retried", "running", "done"]


def _with_pid(path):
    return [(line["task"], int(path.stem.rpartition("-")[2])) for line in read_lines(path)]


def test_a_finished_call_is_answered_from_memory(threads):
    probe = threads.app(tasks.probe, shape="gpu")
    first, second = probe().result(ENOUGH_S), probe().result(ENOUGH_S)

    assert first == second
    assert [line["state"] for line in events(threads.run, "probe")] == ["pending", "running", "done", "remembered"]


def test_a_failed_call_is_not_remembered(threads):
    divide = threads.app(operator.truediv, shape="gpu")
    for _ in range(2):
        with pytest.raises(TaskError):
            divide(1, 0).result(ENOUGH_S)

    assert Counter(line["state"] for line in events(threads.run, "truediv"))["failed"] == 2


def test_a_resumed_run_repeats_nothing_that_finished(tmp_path):
    site, sums = site_registry.find("local-threads"), [(number, 1) for number in range(6)]
    with Run.create("nas", {"n": 3}, root=tmp_path) as run, open_workers(run, place(site, Request())) as pool:
        add = pool.app(operator.add, shape="gpu")
        assert [add(*pair).result(ENOUGH_S) for pair in sums[:4]] == [1, 2, 3, 4]

    with Run.resume(run.path, "nas", {"n": 3}) as run, open_workers(run, place(site, Request())) as pool:
        add = pool.app(operator.add, shape="gpu")
        assert [add(*pair).result(ENOUGH_S) for pair in sums] == [1, 2, 3, 4, 5, 6]

    states = Counter(line["state"] for line in events(run, "add"))
    assert (states["done"], states["remembered"]) == (6, 4)


def test_a_result_that_is_no_plain_data_is_an_error(threads):
    with pytest.raises(TaskError, match="not plain data"):
        threads.app(object, shape="gpu")().result(ENOUGH_S)


def test_a_result_that_finds_no_space_fails_its_task_and_says_so(threads, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(threads._memo, "remember", full)

    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        threads.app(operator.add, shape="gpu")(1, 2).result(ENOUGH_S)


def test_many_tasks_all_arrive(threads):
    add = threads.app(operator.add, shape="gpu")
    futures = [add(number, number) for number in range(200)]
    wait(futures, timeout=ENOUGH_S)

    assert [future.result() for future in futures] == [2 * number for number in range(200)]


def test_inside_an_allocation_all_of_its_nodes_count(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[1-3]")
    with Run.create("nas", {}, root=tmp_path) as run:
        pool = Workers(run=run, placement=find_placement(site_registry.find("perlmutter"), Request(nodes=1)))

        assert pool.count("gpu") == 12
        assert pool.count("block") == 1
        pool._memo.close()


def test_a_file_that_cannot_be_written_keeps_the_watch_from_nothing_else(threads, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(threads.run, "beat", refuse)
    watching = threading.Thread(target=threads.watch, daemon=True)  # one that takes the refusal up
    watching.start()
    future = threads.app(time.sleep, shape="gpu", name="watched")(2)
    deadline = time.monotonic() + ENOUGH_S
    while len(events(threads.run, "watched")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not future.done()
    assert events(threads.run, "watched")[-1]["state"] == "running"
    future.result(ENOUGH_S)
