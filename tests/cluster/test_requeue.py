"""The whole of nas by a driver in a job, stopped in the middle of its training and queued again."""

from __future__ import annotations

from waiting import await_true

from quatrain.files import read_json, read_lines

RESULTS = ("baseline", "finetuned", "best", "pareto", "evaluations")


def test_a_requeued_driver_ends_with_the_result_of_an_undisturbed_run(requeued, undisturbed):
    assert [requeued.code(), undisturbed.code()] == [0, 0], requeued.said

    await_true(lambda: _ended(requeued), "the end of the requeued run")
    await_true(lambda: _ended(undisturbed), "the end of the other run")

    own = [line["state"] for line in requeued.events() if line["task"] is None and line["state"] != "block"]
    assert own == ["submitted", "resumed", "interrupted", "resumed", "done"]
    assert requeued.messages("interrupted") == ["ended by SIGUSR1"]
    steps = [line["step"] for line in read_lines(requeued.run_dir / "training-supernet.jsonl")]
    assert len(set(steps)) == 12
    assert len(steps) <= 13  # the step under way when it was stopped
    assert _results(requeued) == _results(undisturbed)


def _ended(driver):
    log = "\n".join(path.read_text() for path in driver.run_dir.glob("logs/job-*.log"))
    assert driver.summary()["state"] != "failed", log
    return driver.summary()["state"] == "done"


def _results(driver):
    summary = read_json(driver.run_dir / "summary.json")
    return {name: _but_times(summary[name]) for name in RESULTS}


def _but_times(figures):
    """A latency is measured anew in every run."""
    return {n: v for n, v in figures.items() if n != "latency_ms"} if isinstance(figures, dict) else figures
