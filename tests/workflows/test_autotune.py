"""The autotune workflow as its users run it: a real process, real workers, a supernet of the shipped miniature."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import quatrain
from quatrain import checkpoint
from quatrain.files import read_json, read_lines
from quatrain.nas import stages
from quatrain.nas.config import mini
from quatrain.nas.locate import PORTABLE
from quatrain.sam.official import Sam
from quatrain.sam.registry import shape
from quatrain.supernet.cost import encoder_parameters, full_subnet
from quatrain.workflows import autotune

SCRIPT = Path(autotune.__file__)
SMALL = ["--images=6", "--first-images=2", "--evaluations=9", "--random-in-bucket=2", "--max-params=80%", "--onnx"]
FULL = encoder_parameters(shape("vit_mini"), full_subnet(shape("vit_mini")))


@pytest.fixture(scope="module")
def supernet(tmp_path_factory) -> Path:
    """The folder of a run whose supernet is the pretrained net with its channels sorted."""
    folder = tmp_path_factory.mktemp("supernet") / "nas"
    folder.mkdir()
    config = replace(mini(), images=12, parts=(1.0, 2.0, 1.0), few_shot_images=1, max_objects=3)
    stages.prepare(str(folder), config, 0)
    weights = checkpoint.load(folder / "checkpoints" / "start.pt")
    checkpoint.save(folder / "checkpoints" / "supernet.pt", {**weights, "step": config.train.steps})
    return folder


@pytest.fixture(scope="module")
def copied(supernet, tmp_path_factory) -> Path:
    """What another machine needs of the supernet's run, and nothing else."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in PORTABLE:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(supernet / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def finished(copied, tmp_path_factory) -> Path:
    """A run on real workers whose driver was killed in the middle of the search and then resumed."""
    root = tmp_path_factory.mktemp("runs")
    command = [sys.executable, SCRIPT, "--supernet", copied, *SMALL, "--run-root", root]
    with open(root / "said.txt", "w") as said:
        first = subprocess.Popen([*map(str, command)], stdout=said, stderr=said)
        until = time.monotonic() + 240
        while not [*root.glob("autotune-*/search.jsonl")] or len(parts(root)) < 2:
            assert first.poll() is None, Path(said.name).read_text()
            assert time.monotonic() < until, "it took too long"
            time.sleep(0.02)
        first.kill()
        first.wait()
    (folder,) = root.glob("autotune-*")
    second = subprocess.run(
        [sys.executable, str(SCRIPT), "--resume", str(folder)], capture_output=True, text=True, timeout=300
    )
    assert second.returncode == 0, second.stderr
    assert "best: " in second.stdout
    return folder


def parts(root: Path) -> list[dict]:
    return [line for path in root.glob("autotune-*/search.jsonl") for line in read_lines(path) if "metrics" in line]


@pytest.mark.slow
def test_the_answer_keeps_the_limit_and_comes_with_its_checkpoint(finished):
    summary = read_json(finished / "summary.json")
    best = summary["best"]
    sam = quatrain.load_sam(finished / best["checkpoint"])

    assert (summary["workflow"], summary["state"]) == ("autotune", "done")
    assert type(sam) is Sam
    assert sum(p.numel() for p in sam.image_encoder.parameters()) == best["params"] <= 0.8 * FULL
    assert summary["baseline"]["params"] == FULL
    assert summary["pareto"]
    assert summary["workers"] >= 1
    assert summary["measured"] >= 9


@pytest.mark.slow
def test_the_best_networks_onnx_graphs_compute_what_torch_does_and_report_their_time(finished):
    summary, session = read_json(finished / "summary.json"), onnxruntime.InferenceSession
    encoder, decoder = (session(finished / "onnx" / f"{name}.onnx") for name in ("encoder", "decoder"))
    rng, points, labels = np.random.default_rng(0), [[[30.0, 40.0]], [[200.0, 90.0]]], [[1], [1]]
    image = rng.integers(0, 256, (3, 256, 256)).astype(np.float32)
    stock = {"image": torch.from_numpy(image), "original_size": (256, 256)}
    stock |= {"point_coords": torch.tensor(points), "point_labels": torch.tensor(labels)}

    (embedding,) = encoder.run(None, {"image": image[None], "valid_hw": np.array([[256, 256]])})
    prompts = {"points": np.array(points, np.float32), "labels": np.array(labels)}
    masks, iou = decoder.run(None, {"embedding": embedding, **prompts})
    with torch.no_grad():
        (expected,) = quatrain.load_sam(finished / summary["best"]["checkpoint"])([stock], multimask_output=True)

    logits = expected["low_res_logits"].numpy()
    assert np.abs(masks[:, 1:] - logits).max() <= 1e-4 * max(1.0, np.abs(logits).max())
    np.testing.assert_allclose(iou[:, 1:], expected["iou_predictions"], atol=1e-4)
    for graph in (summary["onnx"]["encoder"], summary["onnx"]["decoder"]):
        assert max(graph["difference"].values()) <= 1e-4
        assert min(graph["latency_ms"].values()) > 0
        assert graph["file"] in (finished / "report.html").read_text(encoding="utf8")


@pytest.mark.slow
def test_no_stretch_of_images_is_measured_twice_across_the_crash(finished):
    lines = [line for line in read_lines(finished / "search.jsonl") if line["event"] in ("part", "record")]
    seen = [(line["key"], line["metrics"]["images"]) for line in lines]

    assert len(set(seen)) == len(seen)
    assert len({line["key"] for line in lines if line["proposed"]}) == 9
    assert all(line["params"] <= 0.8 * FULL for line in lines if line["proposed"])


@pytest.mark.slow
def test_the_report_holds_the_best_against_luck(finished):
    page = (finished / "report.html").read_text(encoding="utf8")

    for title in ("Size against quality", "Search history", "What good nets share", "Workers"):
        assert "Left out" not in page.split(title, 1)[1][:600], title
    assert read_json(finished / "random_baseline.json")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--supernet", "nowhere"], "there is no supernet"),
        (["--max-params", "forty"], "is not an amount"),
        (["--max-latency-ms", "-5"], "must be positive"),
        (["--engine", "optuna"], "optuna-tpe"),
        (["--evaluation", "5"], "--evaluations"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(flags, words, tmp_path, capsys):
    code = autotune.main([*flags, "--run-root", str(tmp_path / "runs")])

    error = capsys.readouterr().err
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_limits_that_no_network_keeps_are_refused_before_the_folder_is_made(supernet, tmp_path, capsys):
    code = autotune.main(
        ["--supernet", str(supernet), "--max-params", "1k", "--max-macs", "90%", "--run-root", str(tmp_path / "runs")]
    )

    assert code == 2
    assert "no sub-network has at most 1,000 parameters" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_that_is_no_supernet_is_refused(tmp_path, capsys):
    (tmp_path / "sam_vit_b.pth").write_bytes(b"weights")

    code = autotune.main(["--supernet", str(tmp_path / "sam_vit_b.pth"), "--run-root", str(tmp_path / "runs")])

    assert code == 2
    assert "is not a supernet" in capsys.readouterr().err


@pytest.mark.parametrize("site", ["local", "slurm"])
def test_a_dry_run_describes_the_work_and_imports_no_torch(site, tmp_path):
    code = "import sys; from quatrain.workflows import autotune; "
    code += f"autotune.main(['--dry-run', '--site', '{site}', '--run-root', '{tmp_path}/runs']); "
    code += "print('torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    for step in ("prepare", "train", "search", "random", "table", "deliver"):
        assert step in said
    assert said.strip().endswith("False")
    assert not (tmp_path / "runs").exists()
