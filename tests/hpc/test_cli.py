from __future__ import annotations

import dataclasses
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from quatrain.files import read_json, read_lines
from quatrain.hpc import cli, tasks
from quatrain.hpc.plan import Step
from quatrain.hpc.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    steps: int = 3
    """Steps of the optimiser."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the trial workflow is asked."""

    data: str = "made"
    """Where the images are."""
    model: Literal["vit_mini", "vit_b"] = "vit_mini"
    ratio: float = 0.5
    divisor: int = 1
    train: Training = field(default_factory=Training)

    def __post_init__(self):
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; it must lie between 0 and 1")


def plan(asked):
    return (Step(name="divide", shape="gpu", count=2, seconds=1),)


def work(asked, session):
    divide = session.app(operator.floordiv, shape="gpu")
    session.show.task("divide", total=2)
    for number in range(2):
        session.run.summarise(last=divide(number, asked.divisor).result())
        session.show.advance("divide")
    if asked.data == "ctrl-c":
        raise KeyboardInterrupt
    session.run.summarise(workers=session.workers("gpu"), seed_seen=session.seed)


PRESETS = {"mini": Asked, "paper": lambda: Asked(model="vit_b", ratio=0.25)}
TRIAL = cli.Workflow(name="trial", description="Divides.", presets=PRESETS, plan=plan, work=work)


@pytest.fixture
def main(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli.main(TRIAL, ["--site", "local-threads", *arguments])


def only_run(tmp_path):
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def refused(capsys):
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("quatrain: ")
    return said


def test_flags_lie_over_the_chosen_preset():
    asked, common = cli.parse(TRIAL, ["--preset", "paper", "--train.steps", "9", "--seed=4", "--dry-run"])

    assert asked == Asked(model="vit_b", ratio=0.25, train=Training(steps=9))
    assert (common.seed, common.dry_run, common.site) == (4, True, "local")


def test_the_first_preset_is_the_default_and_the_last_word_counts():
    assert cli.parse(TRIAL, [])[0] == Asked()
    assert cli.parse(TRIAL, ["--preset=mini", "--preset=paper", "--data", "a", "--data", "b"])[0].data == "b"


def test_a_request_comes_from_flags():
    words = [
        "--account=m1_g",
        "--nodes=3",
        "--walltime=01:30:00",
        "--qos=regular",
        "--no-allocation",
        "--gpus-per-node=2",
    ]

    request = cli.parse(TRIAL, words)[1].request

    assert (request.account, request.nodes, request.walltime_min, request.qos) == ("m1_g", 3, 90, "regular")
    assert (request.allocation, request.gpus_per_node) == (False, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--stie local", "no flag '--stie': did you mean '--site'?"),
        ("--trian.steps 3", "did you mean '--train.steps'?"),
        ("--site perlmuter", "did you mean 'perlmutter'?"),
        ("--preset papr", "did you mean 'paper'?"),
        ("--preset", "no preset ''"),
        ("--model vit_c", "choice for --model, 'vit_c': did you mean 'vit_b'?"),
        ("--ratio three", "could not convert string to float: 'three'"),
        ("--ratio 3", "quatrain: ratio is 3.0; it must lie between 0 and 1"),
        ("--train.steps 0", "quatrain: --train: steps is 0; it must be at least 1"),
        ("--data", "--data needs a value"),
        ("stray", "no flag 'stray'"),
        ("--nodes 0", "nodes is 0"),
        ("--walltime later", "walltime is 'later'"),
        ("--site perlmutter", "--account m1234_g"),
        ("--resume nowhere", "is not a run folder"),
    ],
)
def test_a_mistake_takes_one_line_and_exit_code_2_and_leaves_nothing(main, tmp_path, capsys, words, said):
    assert main(*words.split()) == 2

    assert said in refused(capsys)
    assert not list(tmp_path.iterdir())


def test_a_run_ends_done_with_its_summary(main, tmp_path, capsys):
    assert main("--divisor", "1", "--seed", "6") == 0

    folder = only_run(tmp_path)
    summary = read_json(folder / "summary.json")
    assert (summary["state"], summary["last"], summary["workers"], summary["seed_seen"]) == ("done", 1, 1, 6)
    assert str(folder) in capsys.readouterr().out
    assert read_json(folder / "run.json")["site"]["name"] == "local-threads"


@pytest.mark.parametrize(("divisor", "reported"), [("1", ["done"]), ("0", [])])
def test_the_report_is_written_of_a_run_that_is_done_and_of_no_other(tmp_path, capsys, divisor, reported):
    states = []

    def report(folder):
        states.append(read_json(folder / "summary.json")["state"])
        return folder / "report.html"

    workflow = dataclasses.replace(TRIAL, report=report)
    cli.main(workflow, ["--site", "local-threads", "--run-root", str(tmp_path / "runs"), "--divisor", divisor])

    assert states == reported
    assert (f"report: {only_run(tmp_path) / 'report.html'}" in capsys.readouterr().out) == bool(reported)


def test_a_failed_task_is_reported_in_full_with_exit_code_1(main, tmp_path, capsys):
    assert main("--divisor", "0") == 1

    said = capsys.readouterr().err
    assert "task floordiv-0001 failed" in said
    assert "ZeroDivisionError" in said
    assert "--resume" in said
    assert read_json(only_run(tmp_path) / "summary.json")["state"] == "failed"


def test_ctrl_c_ends_with_130_and_the_way_to_go_on(main, tmp_path, capsys):
    assert main("--data", "ctrl-c") == 130

    assert f"--resume {only_run(tmp_path)}" in capsys.readouterr().err
    assert read_json(only_run(tmp_path) / "summary.json")["state"] == "interrupted"


def test_resuming_needs_no_repeated_flags_and_repeats_no_task(main, tmp_path):
    assert main("--data", "ctrl-c", "--preset", "paper") == 130
    folder = only_run(tmp_path)

    assert main("--resume", str(folder)) == 130

    states = [line["state"] for line in read_lines(folder / "events.jsonl") if line["task"]]
    assert (states.count("done"), states.count("remembered")) == (2, 2)
    assert read_json(folder / "run.json")["configuration"]["model"] == "vit_b"


def test_resuming_with_another_configuration_is_refused(main, tmp_path, capsys):
    assert main() == 0
    before = (only_run(tmp_path) / "summary.json").read_text()

    assert main("--resume", str(only_run(tmp_path)), "--ratio", "0.4") == 2

    assert "ratio is 0.5 there, 0.4 here" in capsys.readouterr().err
    assert (only_run(tmp_path) / "summary.json").read_text() == before


def test_a_dry_run_prints_and_makes_nothing(main, tmp_path, capsys):
    assert main("--dry-run", "--site", "perlmutter", "--account", "m1_g") == 0

    said = capsys.readouterr().out
    assert "#SBATCH --account=m1_g" in said
    assert str(tmp_path / "runs" / "trial-TIME-") in said
    assert not list(tmp_path.iterdir())


def test_a_submission_makes_the_folder_and_leaves_it_to_its_job(main, tmp_path, capsys, monkeypatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 17\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert main("--submit", "--site", "slurm", "--ratio", "0.4") == 0

    folder = only_run(tmp_path)
    assert "job: 17" in capsys.readouterr().out
    assert f"trial --resume {folder}" in (folder / "job.sh").read_text()
    assert read_json(folder / "summary.json")["state"] == "queued"
    assert [line["state"] for line in read_lines(folder / "events.jsonl")] == ["submitted"]

    assert main("--resume", str(folder)) == 0
    assert read_json(folder / "run.json")["configuration"]["ratio"] == 0.4


def test_a_refused_submission_leaves_a_run_that_failed_and_can_be_resumed(main, tmp_path, capsys, monkeypatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2; exit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert main("--submit", "--site", "slurm") == 2

    folder = only_run(tmp_path)
    assert "invalid partition specified: x" in refused(capsys)
    summary = read_json(folder / "summary.json")
    assert (summary["state"], "invalid partition" in summary["error"]) == ("failed", True)
    assert [line["state"] for line in read_lines(folder / "events.jsonl")] == ["failed"]
    assert main("--resume", str(folder)) == 0
    assert "error" not in read_json(folder / "summary.json")


def test_a_job_that_starts_before_its_submission_is_over_waits_for_the_folder(main, tmp_path, monkeypatch):
    run = Run.create("trial", Asked(), root=tmp_path / "runs")
    codes = []
    with run.handing_over():
        driver = threading.Thread(target=lambda: codes.append(main_in_a_thread(run.path)))
        driver.start()
        driver.join(1)
        assert driver.is_alive()
        run.event("submitted")
    driver.join(60)

    assert codes == [0]
    assert [line["state"] for line in read_lines(run.path / "events.jsonl")] == ["submitted", "resumed", "done"]


def main_in_a_thread(folder):
    """Open and close a run as a driver does, which handles signals on the main thread alone."""
    run = Run.resume(folder, "trial", Asked())
    run.event("resumed")
    run.event("done")
    return 0


def test_a_training_longer_than_the_walltime_is_no_reason_to_refuse_a_run(capsys, tmp_path):
    def long(resumable):
        step = Step(name="train", shape="block", count=1, seconds=120_000, resumable=resumable)
        workflow = dataclasses.replace(TRIAL, plan=lambda _asked: (step,))
        words = ["--site", "perlmutter", "--account", "m1_g", "--dry-run", "--run-root", str(tmp_path)]
        assert cli.main(workflow, words) == (0 if resumable else 2)
        return capsys.readouterr().out

    assert "--walltime 30 is too short for the longest task: use at least 2004" in long(resumable=False)
    said = long(resumable=True)
    assert "limits: all kept" in said
    assert "no new task after 0:27:00" in said


def test_a_submitted_driver_needs_room_for_the_longest_task_before_it_is_asked_to_stop(tmp_path, capsys):
    step = Step(name="measure", shape="gpu", count=1, seconds=1350)
    workflow = dataclasses.replace(TRIAL, plan=lambda _asked: (step,))
    words = ["--site", "perlmutter", "--account", "m1_g", "--run-root", str(tmp_path), "--dry-run"]

    assert cli.main(workflow, words) == 0
    assert "limits: all kept" in capsys.readouterr().out
    assert cli.main(workflow, [*words, "--submit"]) == 2
    assert "--walltime 30 is too short for the longest task: use at least 31" in capsys.readouterr().out
    assert cli.main(workflow, [word for word in [*words, "--submit"] if word != "--dry-run"]) == 2
    assert "use at least 31" in refused(capsys)


def test_a_container_without_an_image_is_refused_inside_an_allocation_too(main, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid1")

    assert main("--site", "perlmutter-podman") == 2

    assert "add --image with one that contains quatrain" in refused(capsys)
    assert not list(tmp_path.iterdir())


def test_the_site_of_a_run_mounts_its_run_folders_and_data(main, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    words = ("--site", "perlmutter-podman", "--account", "m1_g", "--image", "a:1", "--data", str(tmp_path / "images"))

    assert main(*words, "--dry-run", "--run-root", str(tmp_path.parent / "other")) == 0

    said = capsys.readouterr().out
    assert f"--volume={tmp_path}:{tmp_path}" in said
    assert f"--volume={tmp_path.parent}/other:{tmp_path.parent}/other" in said


def test_a_machine_without_a_queue_takes_no_submission(main, tmp_path, capsys):
    assert main("--submit") == 2

    assert "has no queue" in refused(capsys)
    assert not list(tmp_path.iterdir())


def test_a_dry_submission_prints_the_drivers_own_job(main, tmp_path, capsys):
    assert main("--submit", "--dry-run", "--site", "perlmutter", "--account", "m1_g") == 0

    assert "#SBATCH --signal=B:USR1@300" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_help_reports_every_flag_and_loads_nothing_heavy():
    program = (
        "import sys; sys.path.insert(0, 'tests/hpc'); import test_cli; from quatrain.hpc import cli;"
        "code = cli.main(test_cli.TRIAL, ['--help']);"
        "assert code == 0; assert not {'torch', 'parsl', 'numpy.linalg'} & (set(sys.modules) - {'numpy.linalg'})"
    )
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=root, capture_output=True, text=True)

    for flag in ("--preset", "--data", "--train.steps", "--site", "--dry-run", "--resume", "--no-allocation"):
        assert flag in done.stdout
    assert "Where the images are." in done.stdout


DRIVER = """
import sys, time
sys.path.insert(0, {folder!r})
import test_cli
from quatrain.hpc import cli, tasks

def work(asked, session):
    pool = session.app(tasks.probe, shape="gpu")().result()["pid"]
    print("worker", pool, flush=True)
    time.sleep(120)

trial = cli.Workflow(name="trial", description="", presets=test_cli.PRESETS, plan=test_cli.plan, work=work)
sys.exit(cli.main(trial, []))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_driver_that_dies_leaves_no_process_behind(tmp_path, number, code):
    program = DRIVER.format(folder=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        worker = next(int(line.split()[1]) for line in driver.stdout if line.startswith("worker"))
        driver.send_signal(number)
        driver.wait(30)
    deadline = time.monotonic() + 40
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    assert driver.returncode == code
    assert not Path(f"/proc/{worker}").exists()
    state = read_json(only_run(tmp_path) / "summary.json")["state"]
    assert state == ("interrupted" if number == signal.SIGTERM else "running")


def test_the_probe_reports_where_it_runs():
    assert tasks.probe().keys() == {"host", "pid", "python", "gpus", "cpus", "threads"}
