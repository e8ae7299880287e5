"""The whole of nas by a driver in a job, stopped in the middle of its training and queued again."""

from __future__ import annotations

from conftest import await_true

from quatrain.records import read_json, read_lines

SMALLEST = (
    *("--images", "12", "--few-shot-images", "2", "--max-objects", "2"),
    *("--train.steps", "6", "--train.batch", "2", "--train.save-every-s", "0"),
    *("--search.evaluations", "2", "--search.random-in-bucket", "1", "--search.max-params", "80%"),
)
RESULTS = ("baseline", "finetuned", "best", "pareto", "evaluations")


def submitted(start):
    driver = start(
        "nas", "--gpus-per-node", "1", "--walltime", "50", *SMALLEST, program=("-m", "quatrain.workflows", "submit")
    )
    assert driver.code() == 0, driver.said
    (job,) = [line.split()[1].rstrip(";") for line in driver.said.splitlines() if line.startswith("job: ")]
    return driver, job


def ended(driver):
    log = "\n".join(path.read_text() for path in driver.run_dir.glob("logs/job-*.log"))
    assert driver.summary()["state"] != "failed", log
    return driver.summary()["state"] == "done"


def test_a_requeued_driver_ends_with_the_result_of_an_undisturbed_run(start):
    disturbed, job = submitted(start)
    undisturbed, _ = submitted(start)
    training = disturbed.run_dir / "training-supernet.jsonl"
    await_true(lambda: len(list(read_lines(training))) >= 2, "two steps of training")

    disturbed.command("scancel", "--batch", "--signal=USR1", job)
    await_true(lambda: ended(disturbed), "the end of the requeued run")
    await_true(lambda: ended(undisturbed), "the end of the other run")

    states = [line["state"] for line in disturbed.events() if line["task"] is None and line["state"] != "block"]
    assert states[0] == "submitted"
    assert states[1:] == ["resumed", "interrupted", "resumed", "done"]
    assert any("SIGUSR1" in text for text in disturbed.messages("interrupted"))
    steps = [line["step"] for line in read_lines(training)]
    assert len(set(steps)) == 6
    assert len(steps) <= 7
    assert _results(disturbed) == _results(undisturbed)


def _results(driver):
    summary = read_json(driver.run_dir / "summary.json")
    return {name: summary[name] for name in RESULTS}
