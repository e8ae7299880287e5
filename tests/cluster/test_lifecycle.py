"""Whatever dies, every result arrives, nothing that finished runs twice, and no job outlives its driver."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest
from waiting import await_true

from quatrain.files import read_lines
from quatrain.hpc.blocks import read


def ended_once(driver, count):
    """Every task ended exactly once, however often it began."""
    return ended(driver) == dict.fromkeys(range(count), 1)


def running(driver):
    """Places of tasks that began and did not end, the latest last."""
    over = Counter(place["number"] for place in driver.places("ended"))
    return [place for place in driver.places("began") if not over[place["number"]]]


def test_a_killed_worker_a_killed_manager_and_a_cancelled_job_cost_no_result(start):
    driver = start("--nodes", "2", "--count", "48", "--seconds", "2")
    driver.await_begun(8)

    os.kill(running(driver)[0]["pid"], signal.SIGKILL)
    await_true(lambda: driver.states()["retried"] >= 1, "the retry after a worker's death")
    os.kill(running(driver)[-1]["manager"], signal.SIGKILL)
    await_true(lambda: any("ManagerLost" in text for text in driver.messages("retried")), "the loss of a manager")
    first = driver.jobs()
    for job in first:
        driver.command("scancel", job)

    assert driver.code() == 0, driver.said
    assert ended_once(driver, 48)
    assert len(driver.summary()["places"]) == 48
    assert {place["job"] for place in driver.places("ended")} > set(first)
    said = "\n".join(driver.messages("retried"))
    assert "WorkerLost" in said
    assert any(f"job {job}" in text and "queued" not in text for job in first for text in driver.messages("block"))
    assert driver.states()["failed"] == 0


def test_a_job_that_slurm_puts_back_into_the_queue_goes_on_and_its_wait_is_not_counted(start):
    driver = start("--count", "12", "--seconds", "2", "--gpus-per-node", "2")
    driver.await_begun(3)

    (job,) = driver.jobs()
    driver.command("scontrol", "requeue", job)

    assert driver.code() == 0, driver.said
    assert set(ended(driver)) == set(range(12))
    reported = [text for text in driver.messages("block") if text.startswith("block gpu 0 ")]
    assert [text.split(",")[0] for text in reported if "again" in text] == [
        "block gpu 0 queued again",
        "block gpu 0 began again",
    ]
    (block,) = [block for block in read(driver.run_dir) if block.name.endswith("gpu 0")]
    ((begin, end),) = block.earlier
    assert begin < end < block.began < block.ended
    assert block.seconds(time.time()) < block.ended - begin


def ended(driver):
    """How often each task ended."""
    return Counter(place["number"] for place in driver.places("ended"))


def finished(driver):
    """Numbers of the tasks whose results stand in the run folder."""
    lines = read_lines(driver.run_dir / "finished.jsonl")
    return {line["result"]["number"] for line in lines if line["task"].startswith("hold-")}


def test_a_driver_that_dies_takes_its_jobs_with_it_and_is_resumed_without_repeating_what_finished(start):
    driver = start("--nodes", "2", "--count", "40", "--seconds", "1")
    await_true(lambda: len(finished(driver)) >= 4, "some results")

    before_term = finished(driver)
    driver.process.send_signal(signal.SIGTERM)
    assert driver.code() == 128 + signal.SIGTERM
    await_true(lambda: not driver.jobs(), "the end of the job after SIGTERM")
    assert driver.summary()["state"] == "interrupted"

    again = start("--resume", str(driver.run_dir))
    await_true(lambda: len(finished(again)) >= len(before_term) + 8, "some more results")
    before_kill = finished(again)
    again.process.send_signal(signal.SIGKILL)
    again.code()
    await_true(lambda: not again.jobs(), "the end of the job after SIGKILL")

    last = start("--resume", str(driver.run_dir))
    assert last.code() == 0, last.said
    times = ended(last)
    assert set(times) == set(range(40))
    assert before_term < before_kill
    assert {number: times[number] for number in before_kill} == dict.fromkeys(before_kill, 1)
    assert max(times.values()) <= 3  # one more for each driver that died while the result was on its way
    assert last.summary()["state"] == "done"


def test_torn_files_cost_the_torn_line_only(start):
    local = ("--site", "local-threads", "--count", "6", "--seconds", "0")
    first = start(*local)
    assert first.code() == 0, first.said
    for name in ("finished.jsonl", "events.jsonl"):
        path = first.run_dir / name
        os.truncate(path, path.stat().st_size - 5)

    again = start("--resume", str(first.run_dir))

    assert again.code() == 0, again.said
    assert again.states()["remembered"] == 5
    assert Counter(place["number"] for place in again.places("ended")) == {**dict.fromkeys(range(5), 1), 5: 2}


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (("--size", "200000", "--tmpfs", "{root}"), "No space left on device"),
        (("--ro-bind", "{root}", "{root}"), "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_is_reported_in_one_line(start, tmp_path, around, said):
    root = tmp_path / "small"
    root.mkdir()
    around = [word.format(root=root) for word in around]
    jail = ("bwrap", "--dev-bind", "/", "/", *around, "--chdir", str(tmp_path), "--")
    words = ("--site", "local-threads", "--count", "4000", "--seconds", "0", "--run-root", str(root))

    driver = start(*words, before=jail)

    assert driver.code() == 2, driver.said
    assert [line for line in driver.said.splitlines() if said in line and line.startswith("quatrain: ")]
    assert "Traceback" not in driver.said
