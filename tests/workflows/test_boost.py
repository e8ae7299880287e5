"""The boost workflow as its users run it: a real process, real workers, the shipped miniature."""

import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from PIL import Image

from quatrain.data.synthetic import SyntheticImages
from quatrain.files import read_json, read_lines
from quatrain.hpc.worker import MachineError, TaskError
from quatrain.micrograph.config import BatchConfig, mini
from quatrain.micrograph.inputs import InputImage
from quatrain.workflows import boost

SCRIPT = Path(boost.__file__)


def run(*flags):
    return subprocess.run([sys.executable, SCRIPT, *map(str, flags)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of two good images and a broken one, boosted on real workers and then resumed."""
    root = tmp_path_factory.mktemp("boost")
    (root / "images").mkdir()
    made = SyntheticImages(count=2, seed=0, size_px=256)
    for index in range(2):
        image, truth = made.micrograph(index)
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(truth).save(root / "images" / f"{index}_truth.png")
    (root / "images" / "broken.tif").write_bytes(b"nothing")
    said = run(root / "images", "--chunk=1", "--masks.points-per-side=4", "--run-root", root / "runs")
    assert said.returncode == 3, said.stderr  # one input failed
    (folder,) = (root / "runs").iterdir()
    return folder, said.stdout


@pytest.mark.slow
def test_a_folder_becomes_label_maps_and_the_broken_file_is_named(finished):
    folder, said = finished
    summary = read_json(folder / "summary.json")

    assert summary["workflow"] == "boost"
    assert summary["state"] == "done"
    assert [line["state"] for line in summary["images"]] == ["done", "done", "failed"]
    assert "failed: broken" in said
    assert summary["mean_iou_boosted"] is not None
    for name in ("0", "1"):
        for file in ("labels.tif", "masks.json", "regions.csv", "boost.h5", "overlay.png", "removed.csv"):
            assert (folder / "images" / name / file).is_file()
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_resuming_repeats_no_image_and_tries_the_broken_one_again(finished):
    folder, _ = finished
    labels = folder / "images" / "0" / "labels.tif"
    before = labels.stat().st_mtime_ns
    source = Path(read_json(folder / "run.json")["configuration"]["data"])
    (source / "broken.tif").unlink()
    Image.open(source / "0.png").save(source / "broken.tif")

    answer = run("--resume", folder)

    assert answer.returncode == 0, answer.stderr
    assert labels.stat().st_mtime_ns == before
    assert [line["state"] for line in read_json(folder / "summary.json")["images"]] == ["done"] * 3
    done = [
        event["task"] for event in read_lines(folder / "events.jsonl") if event["state"] == "done" and event["task"]
    ]
    assert len(done) == 4


@pytest.mark.slow
def test_a_single_image_reports_its_overlay(finished, tmp_path, capsys):
    folder, _ = finished
    source = Path(read_json(folder / "run.json")["configuration"]["data"])
    flags = ["--site=local-threads", "--masks.source=regions", "--run-root", str(tmp_path)]

    assert boost.main([str(source / "0.png"), *flags]) == 0

    said = capsys.readouterr().out.splitlines()
    reported = [line.partition("overlay: ")[2] for line in said if "overlay: " in line]
    assert [Path(path).is_file() for path in reported] == [True], said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere.png"], "nowhere.png"),
        (["--data", "made:foan,foam"], "foam"),
        (["--k", "0"], "k is 0"),
        (["--removal.parent-covered", "7"], "parent_covered is 7"),
        (["--merging.embedder", "resnet18"], "resnet18_weights"),
        (["--removal.ordr", "x"], "--removal.order"),
        (["--masks.model", "vit_b"], "--masks.checkpoint"),
        (["--masks.model", "vit_b", "--masks.checkpoint", "gone.pth"], "gone.pth"),
        (["--preset", "papr"], "paper"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(flags, words, tmp_path, capsys):
    code = boost.main([*flags, "--run-root", str(tmp_path / "runs")])

    error = capsys.readouterr().err
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("site", ["local", "slurm"])
def test_a_dry_run_describes_the_work_without_doing_any(site, tmp_path, capsys):
    code = boost.main(["--dry-run", "--site", site, "--run-root", str(tmp_path / "runs")])

    assert code == 0
    assert "boost" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_planning_does_not_import_torch():
    code = "import sys; from quatrain.workflows import boost; boost.main(['--dry-run']); print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip().endswith("False")


def test_the_plan_counts_chunks():
    (step,) = boost.plan(mini())

    assert step.shape == "gpu"
    assert step.count == 3
    assert boost.plan(BatchConfig(images=5, chunk=2))[0].count == 3


def test_a_chunk_that_was_lost_with_its_worker_is_put_aside_and_fails_the_second_time():
    lost, future = [], Future()
    future.set_exception(TaskError("task boost-0001 failed: its worker died"))
    chunk = [InputImage(name="a", path="a.png"), InputImage(name="b", path="b.png")]

    assert boost._outcomes(future, chunk, lost, again=False) == []
    assert lost == chunk
    reported = boost._outcomes(future, chunk[:1], lost, again=True)

    assert [(one["name"], one["state"]) for one in reported] == [("a", "failed")]
    assert "its worker died" in reported[0]["error"]


def test_a_failure_of_the_machine_is_raised_and_blames_no_image():
    future = Future()
    future.set_exception(MachineError("Slurm did not take the job at 6 tries"))

    with pytest.raises(MachineError, match="6 tries"):
        boost._outcomes(future, [InputImage(name="a", path="a.png")], [], again=True)


@pytest.mark.parametrize(("broken", "code"), [(1, 3), (2, 1)])
def test_failed_images_decide_the_exit_code(broken, code, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for index in range(2):
        path = tmp_path / "images" / f"{index}.png"
        if index < broken:
            path.write_bytes(b"this is not an image")
        else:
            Image.fromarray(SyntheticImages(count=1, seed=0, size_px=128).micrograph(0)[0]).save(path)
    flags = ["--site=local-threads", "--masks.source=regions", "--run-root", str(tmp_path / "runs")]

    assert boost.main([str(tmp_path / "images"), *flags]) == code

    (folder,) = (tmp_path / "runs").iterdir()
    assert read_json(folder / "summary.json")["state"] == ("done" if code == 3 else "failed")
