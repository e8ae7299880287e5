"""Walltimes: drained in time where tasks keep to their estimate, and survived where they do not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from datetime import datetime

from waiting import await_true

from quatrain.files import read_json
from quatrain.hpc.blocks import read


def test_no_task_is_begun_that_the_walltime_would_cut_off(drained):
    assert drained.code() == 0, drained.said
    assert drained.states()["retried"] == 0
    assert Counter(place["number"] for place in drained.places("began")) == dict.fromkeys(range(50), 1)
    assert len({place["job"] for place in drained.places("ended")}) >= 2


def test_a_task_that_the_walltime_cuts_off_runs_again_in_the_next_job(overdue):
    assert overdue.code() == 0, overdue.said
    tries = [place["job"] for place in overdue.places("began") if place["number"] == 0]
    assert len(tries) == len(set(tries)) == 2
    assert Counter(place["number"] for place in overdue.places("ended")) == dict.fromkeys(range(6), 1)
    assert any("ManagerLost" in text for text in overdue.messages("retried"))


def test_a_pool_that_starts_late_in_an_allocation_takes_no_task_that_its_end_would_cut_off(late):
    await_true(
        lambda: "no task would end before the nodes are taken back" in _block_logs(late), "a pool that stands by"
    )
    with contextlib.suppress(ProcessLookupError):  # by the turn of this test the allocation may be over
        os.kill(read_json(late.run_dir / "run.json")["driver"]["pid"], signal.SIGTERM)
    late.code()

    end = min(block.until for block in read(late.run_dir) if block.until)  # what Slurm itself reported
    times = [_seconds(line) for line in late.events() if line["state"] == "done"]
    began, ended = ({place["number"] for place in late.places(when)} for when in ("began", "ended"))
    assert len(times) >= 4
    assert max(times) <= end
    assert began == ended
    assert late.states()["retried"] == 0


def _block_logs(driver):
    return "".join(path.read_text() for path in driver.run_dir.glob("parsl/*/submit_scripts/*.err"))


def _seconds(line):
    return datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
