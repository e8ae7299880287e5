"""The nas workflow as its users run it: a real process, real workers, the shipped miniature."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import quatrain
from quatrain.errors import UsageError
from quatrain.files import read_json, read_lines
from quatrain.nas.config import mini
from quatrain.sam.official import Sam
from quatrain.sam.registry import shape
from quatrain.supernet.cost import encoder_parameters, full_subnet
from quatrain.supernet.space import Subnet
from quatrain.workflows import nas

SCRIPT = Path(nas.__file__)
SMALL = [
    "--images=16",
    "--few-shot-images=2",
    "--max-objects=4",
    "--train.steps=6",
    "--train.batch=2",
    "--train.save-every-s=0",
    "--search.evaluations=3",
    "--search.random-in-bucket=2",
    "--search.max-params=80%",
]


def run(*flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run on real workers that was interrupted in the middle of its training and then resumed."""
    root = tmp_path_factory.mktemp("runs")
    with open(root / "said.txt", "w") as said:
        command = [sys.executable, SCRIPT, *SMALL, "--run-root", str(root / "runs")]
        first = subprocess.Popen(command, stdout=said, stderr=said)
        wait_for(lambda: len([*root.glob("runs/*/training-supernet.jsonl")]) == 1, first, said.name)
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
    (folder,) = (root / "runs").iterdir()
    assert read_json(folder / "summary.json")["state"] == "interrupted"
    second = run("--resume", str(folder))
    assert second.returncode == 0, second.stderr
    return folder


def wait_for(condition, process: "subprocess.Popen[bytes]", said: str, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, Path(said).read_text()
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_the_summary_reports_what_was_found(finished):
    summary = read_json(finished / "summary.json")
    best = summary["best"]
    found = Subnet.parse(best["subnet"])

    assert summary["workflow"] == "nas"
    assert summary["state"] == "done"
    assert best["params"] == encoder_parameters(shape("vit_mini"), found)
    assert best["reduction"] == pytest.approx(1 - best["params"] / summary["baseline"]["params"])
    assert best["reduction"] >= 0.2
    assert {"miou", "params", "gmacs"} <= summary["finetuned"].keys()
    assert summary["evaluations"] >= 3
    assert summary["workers"] >= 1
    assert summary["pareto"]


@pytest.mark.slow
def test_the_checkpoint_is_a_stock_sam_of_the_found_size(finished):
    best = read_json(finished / "summary.json")["best"]

    sam = quatrain.load_sam(finished / best["checkpoint"])

    assert type(sam) is Sam
    assert sum(p.numel() for p in sam.image_encoder.parameters()) == best["params"]


@pytest.mark.slow
def test_what_finished_before_the_interruption_is_not_done_again(finished):
    events = list(read_lines(finished / "events.jsonl"))
    done = [event["task"] for event in events if event["state"] == "done" and event["task"]]

    assert sum(task.startswith("prepare") for task in done) == 1
    assert any(event["state"] == "remembered" and event["task"] == "prepare-0001" for event in events)


@pytest.mark.slow
def test_training_went_on_from_its_checkpoint(finished):
    steps = [line["step"] for line in read_lines(finished / "training.jsonl") if line["run"] == "supernet"]
    nets = [line["net"] for line in read_lines(finished / "training.jsonl") if line["run"] == "supernet"]

    assert sorted(set(steps)) == list(range(1, 7))
    assert len(steps) == 6 * 4
    assert set(nets) == {"largest", "smallest", "random 1", "random 2"}


@pytest.mark.slow
def test_no_network_is_evaluated_twice_and_none_outside_the_bounds(finished):
    records = [line for line in read_lines(finished / "search.jsonl") if line["event"] == "record"]
    bound = 0.8 * encoder_parameters(shape("vit_mini"), full_subnet(shape("vit_mini")))

    assert len({line["key"] for line in records}) == len(records)
    assert all(line["params"] <= bound for line in records)


@pytest.mark.slow
def test_the_table_has_every_baseline(finished):
    names = [line["name"] for line in json.loads((finished / "table.json").read_text())]

    for name in ("pretrained", "fine-tuned", "largest", "smallest", "best"):
        assert name in names
    for start in ("random nets", "depth only", "width only", "top net of"):
        assert any(name.startswith(start) for name in names)
    assert sum(name.startswith("found widths, channels") for name in names) == 3


@pytest.mark.slow
def test_the_report_stands_alone(finished):
    page = (finished / "report.html").read_text(encoding="utf8")

    assert "<title>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/") >= 12


@pytest.mark.slow
def test_a_run_folder_of_another_configuration_is_refused(finished):
    answer = run("--resume", str(finished), "--train.steps=7")

    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1
    assert "steps" in answer.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--space.widths", "10", "9999"], "9999"),
        (["--space.removable", "99"], "block 99"),
        (["--search.max-params", "1k"], "at most 1,000 parameters"),
        (["--search.engine", "opentuna"], "opentuner"),
        (["--model", "vit_x"], "vit_b"),
        (["--preset", "papr"], "paper"),
        (["--train.stebs", "3"], "--train.steps"),
        (["--site", "perlmuter"], "perlmutter"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(flags, words, tmp_path, capsys):
    code = nas.main([*flags, "--run-root", str(tmp_path / "runs")])

    error = capsys.readouterr().err
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "nowhere"], "there is no"),
        (["--data", "empty"], "is empty"),
        (["--data", "mismatched"], "a.png"),
        (["--model", "vit_b"], "vit_b needs --checkpoint PATH"),
        (["--model", "vit_b", "--checkpoint", "nowhere.pth"], "there is no checkpoint"),
        (["--checkpoint", "empty"], "vit_mini has no official checkpoint"),
    ],
)
def test_wrong_inputs_are_reported_before_a_run_folder_is_made(flags, words, tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mismatched").mkdir()
    Image.new("L", (64, 64)).save(tmp_path / "mismatched" / "a.png")
    Image.new("L", (32, 64)).save(tmp_path / "mismatched" / "a_truth.png")

    code = nas.main([*flags, "--run-root", str(tmp_path / "runs")])

    error = capsys.readouterr().err
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_images_that_are_passed_over_are_counted_and_named(tmp_path, capsys, monkeypatch):
    from PIL import Image

    from quatrain.data.synthetic import SyntheticImages

    for index in range(4):
        image, labels = SyntheticImages(count=4, seed=1, size_px=64).micrograph(index)
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        Image.fromarray(labels).save(tmp_path / f"{index}_truth.png")
    (tmp_path / "0.png").write_bytes(b"no image")

    def stop(*_):
        raise UsageError("far enough")

    monkeypatch.setattr(nas.tasks, "train_network", stop)
    code = nas.main(["--site=local-threads", "--data", str(tmp_path), "--run-root", str(tmp_path / "runs")])

    (folder,) = (tmp_path / "runs").iterdir()
    said = capsys.readouterr().out
    assert code == 2
    assert "1 skipped" in said
    assert "0.png: it is not an image" in said
    assert len(read_json(folder / "summary.json")["skipped"]) == 1


@pytest.mark.parametrize("site", ["local", "local-threads", "slurm", "perlmutter"])
def test_a_dry_run_describes_the_work_without_doing_any(site, tmp_path, capsys):
    account = ["--account", "m1234_g"] if site == "perlmutter" else []

    code = nas.main(["--dry-run", "--site", site, *account, "--run-root", str(tmp_path / "runs")])

    said = capsys.readouterr().out
    assert code == 0
    for step in ("prepare", "train", "search", "table", "deliver"):
        assert step in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("old", [["--exam-points", "0"], ["--exam_points=0"]])
def test_a_flag_of_the_last_release_still_works_and_is_reported(old, capsys):
    assert nas.main(["--dry-run", *old]) == 2

    said = capsys.readouterr().err
    assert "--exam-points is deprecated and the next release removes it: use --eval-points" in said
    assert "eval_points is 0; it must be at least 1" in said


def test_planning_does_not_import_torch():
    code = "import sys; from quatrain.workflows import nas; nas.main(['--dry-run']); print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip().endswith("False")


def test_the_plan_counts_every_training():
    train = next(step for step in nas.plan(mini()) if step.name == "train")

    assert train.count == 2
