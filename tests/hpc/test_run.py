from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass

import pytest

from quatrain.errors import UsageError
from quatrain.files import read_json, read_lines, write_json
from quatrain.hpc import site_registry
from quatrain.hpc.placement import place
from quatrain.hpc.run import FOLDERS, Run, Terminated, differing, one_line
from quatrain.hpc.site import Request


@dataclass(frozen=True)
class Asked:
    steps: int = 3
    data: str = "made"


def summary(run):
    return read_json(run.path / "summary.json")


def test_a_run_folder_is_named_by_workflow_time_and_configuration(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path) as first, Run.create("nas", Asked(), root=tmp_path) as second:
        assert re.fullmatch(r"nas-\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?", first.path.name)
        assert first.path != second.path
        assert first.identity == second.identity
        assert all((first.path / name).is_dir() for name in FOLDERS)

    with Run.create("nas", Asked(steps=4), root=tmp_path) as other:
        assert other.identity != first.identity


def test_the_record_reports_what_was_asked_where_and_with_which_software(tmp_path):
    placement = place(site_registry.find("perlmutter"), Request(account="m1_g"))

    with Run.create("nas", Asked(), root=tmp_path, seed=5, placement=placement, command=["--nodes", "2"]) as run:
        facts = read_json(run.path / "run.json")

    assert facts["configuration"] == {"steps": 3, "data": "made"}
    assert (facts["seed"], facts["command"], facts["request"]["account"]) == (5, ["--nodes", "2"], "m1_g")
    assert facts["site"]["name"] == "perlmutter"
    assert {"quatrain", "python", "parsl", "numpy"} <= facts["versions"].keys()
    assert facts["driver"]["pid"] == os.getpid()


def test_a_run_that_ends_is_done(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path, seed=2) as run:
        assert summary(run) | {"seconds": 0} == {"workflow": "nas", "state": "running", "seconds": 0, "seed": 2}
        run.summarise(best={"miou": 0.5})
        run.summarise(evaluations=3)

    assert list(summary(run))[:4] == ["workflow", "state", "seconds", "seed"]
    assert summary(run)["state"] == "done"
    assert summary(run)["best"] == {"miou": 0.5}
    assert [line["state"] for line in read_lines(run.path / "events.jsonl")] == ["started", "done"]


def test_an_exception_makes_it_failed_with_its_message_and_its_traceback(tmp_path):
    run = Run.create("nas", Asked(), root=tmp_path)
    run.summarise(evaluations=3)
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0

    assert summary(run)["state"] == "failed"
    assert summary(run)["error"] == "ZeroDivisionError: division by zero"
    assert summary(run)["evaluations"] == 3
    assert "Traceback" in next(run.logs.glob("driver-*.log")).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_makes_it_interrupted(tmp_path, number):
    before = signal.getsignal(number)
    run = Run.create("nas", Asked(), root=tmp_path)
    with pytest.raises(Terminated) as ending, run:
        os.kill(os.getpid(), number)

    assert ending.value.code == 128 + number
    assert summary(run)["state"] == "interrupted"
    assert list(read_lines(run.path / "events.jsonl"))[-1]["message"] == f"ended by {number.name}"
    assert signal.getsignal(number) is before


def test_a_signal_that_the_process_was_asked_to_ignore_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Run.create("nas", Asked(), root=tmp_path) as run:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    assert summary(run)["state"] == "done"


@pytest.mark.parametrize("name", ["two words", "a;b", "$HOME"])
def test_a_folder_that_a_shell_would_misread_is_refused_before_it_is_made(tmp_path, name):
    with pytest.raises(UsageError, match=r"run folders cannot lie in .*take another with --run-root"):
        Run.create("nas", Asked(), root=tmp_path / name)

    assert not list(tmp_path.iterdir())


def test_ctrl_c_makes_it_interrupted(tmp_path):
    run = Run.create("nas", Asked(), root=tmp_path)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt

    assert summary(run)["state"] == "interrupted"
    assert "error" not in summary(run)


def test_a_resumed_run_keeps_its_summary_its_time_and_its_history(tmp_path):
    run = Run.create("nas", Asked(), root=tmp_path, command=["a"])
    run.summarise(evaluations=3)
    run._started -= 100
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0

    with Run.resume(run.path, "nas", Asked(), command=["b"]) as again:
        assert again.resumed
        assert again.seconds > 100
    facts = read_json(run.path / "run.json")

    assert summary(again)["evaluations"] == 3
    assert summary(again)["state"] == "done"
    assert "error" not in summary(again)
    assert [earlier["command"] for earlier in facts["resumed"]] == [["a"]]
    assert [line["state"] for line in read_lines(run.path / "events.jsonl")] == ["started", "failed", "resumed", "done"]


@pytest.mark.parametrize(
    ("workflow", "asked", "seed", "said"),
    [
        ("gnn", Asked(), 0, "is a run of 'nas', not of 'gnn'"),
        ("nas", Asked(steps=4), 0, "steps is 3 there, 4 here"),
        ("nas", Asked(), 1, "seed is 0 there, 1 here"),
    ],
)
def test_a_folder_of_another_run_is_refused_with_the_difference(tmp_path, workflow, asked, seed, said):
    with Run.create("nas", Asked(), root=tmp_path) as run:
        pass

    with pytest.raises(UsageError, match=said):
        Run.resume(run.path, workflow, asked, seed=seed)


def test_a_run_of_other_code_with_other_settings_is_refused_in_one_line(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path) as run:
        pass
    facts = read_json(run.path / "run.json")
    facts["versions"]["code"] = "00000000"
    write_json(run.path / "run.json", facts)

    with pytest.raises(UsageError, match=r"written by other code of quatrain \(00000000, here \w{8}\)"):
        Run.resume(run.path, "nas", Asked(steps=4))


def test_nested_differences_are_named_by_their_path():
    there, here = {"train": {"steps": 3, "lr": 1}, "data": "a"}, {"train": {"steps": 4, "lr": 1}, "new": 1}

    assert differing(there, here, "configuration") == [
        "data is 'a' there, None here",
        "new is None there, 1 here",
        "steps is 3 there, 4 here",
    ] or "train.steps is 3 there, 4 here" in differing(there, here, "configuration")


def test_what_is_no_run_folder_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        Run.resume(tmp_path, "nas", Asked())
    with pytest.raises(UsageError, match="is not a folder"):
        Run.resume(tmp_path / "nothing", "nas", Asked())
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Run.resume(tmp_path, "nas", Asked())
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="not the record of a run"):
        Run.resume(tmp_path, "nas", Asked())


def test_a_run_folder_has_one_driver_at_a_time(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path) as run, pytest.raises(UsageError, match="in use"):
        Run.resume(run.path, "nas", Asked())

    with Run.resume(run.path, "nas", Asked()):
        pass


def test_a_root_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=r"no run folder in .*--run-root"):
        Run.create("nas", Asked(), root=tmp_path / "file")


def test_a_torn_summary_does_not_keep_a_run_from_going_on(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path) as run:
        pass
    (run.path / "summary.json").write_text('{"workflow": "n')

    with Run.resume(run.path, "nas", Asked()) as again:
        pass

    assert summary(again)["state"] == "done"


def test_a_disk_that_is_full_at_the_end_does_not_hide_what_went_wrong(tmp_path, monkeypatch, capsys):
    def full(*_arguments, **_keywords):
        raise OSError(28, "No space left on device")

    run = Run.create("nas", Asked(), root=tmp_path).__enter__()
    monkeypatch.setattr("quatrain.hpc.run.write_json", full)
    run.__exit__(ZeroDivisionError, ZeroDivisionError("division"), None)

    assert "No space left on device" in capsys.readouterr().err


def test_an_error_takes_one_line():
    assert one_line(None) == ""
    assert one_line(UsageError("two\n lines")) == "two lines"
    assert one_line(ValueError("a\nb")) == "ValueError: a b"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_every_event_is_one_object_with_the_agreed_names(tmp_path):
    with Run.create("nas", Asked(), root=tmp_path) as run:
        run.event("running", task="measure-0001", node="nid1", tries=2, at=1.5)
        run.note("the search begins")
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]

    assert all(line.keys() == {"time", "task", "state", "node", "try", "message"} for line in lines)
    assert lines[1]["time"] == "1970-01-01T00:00:01.500Z"
    assert (lines[1]["node"], lines[1]["try"], lines[2]["message"]) == ("nid1", 2, "the search begins")
