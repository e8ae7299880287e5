from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from search_worlds import MINI, SAM, score, start

from quatrain.files import append_line, write_json
from quatrain.nas.autotune_report import write_report
from quatrain.nas.comparison import random_baseline, size_buckets
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet

SECTIONS = ("Size against quality", "Search history", "What good nets share", "As ONNX", "Workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run folder as an autotune run leaves it, but for the table and the pictures."""
    folder = tmp_path_factory.mktemp("run")
    search = start(folder / "search.jsonl", budget=30, rungs=(4, 12), engine="evolution")
    while trial := search.propose():
        search.record(trial, figures(trial))
    buckets = size_buckets(MINI, Bounds.parse(SAM, max_params="60%"), search, count=3, seed=0)
    for subnet in [MINI.largest(), *(net for bucket in buckets for net in bucket.subnets)]:
        if trial := search.baseline(subnet):
            search.record(trial, figures(trial))
    poison = Trial(subnet=MINI.smallest(), last=4)
    search.set_aside(poison, "task measure-0007 failed after 3 tries: <WorkerLost>")
    write_json(folder / "random_baseline.json", random_baseline(buckets, search))
    write_json(folder / "study.json", {"space": MINI})
    best = search.best().subnet
    size = {"params": encoder_parameters(SAM, best), "gmacs": encoder_macs(SAM, best) / 1e9, "latency_ms": 12.0}
    full = {"params": encoder_parameters(SAM, full_subnet(SAM)), "gmacs": 0.45, "latency_ms": 20.0, "miou": 0.7}
    found = {**size, "miou": 0.72, "reduction": 0.4, "subnet": best.key, "checkpoint": "checkpoints/best.pth"}
    write_json(
        folder / "summary.json",
        {"state": "done", "model": "vit_mini", "data": "made:unseen", "baseline": full, "best": found}
        | {"workers": 2, "evaluations": len(search.evaluations), "measured": len(search.measured)},
    )
    write_json(folder / "onnx" / "export.json", {"encoder": graph("encoder", 31.0), "decoder": graph("decoder", 7.5)})
    for second, state, task in ((1, "running", 1), (2, "running", 2), (3, "done", 1), (4, "done", 2)):
        line = {"time": f"2026-01-02T03:04:0{second}.000Z", "state": state, "task": f"measure-{task}"}
        append_line(folder / "events.jsonl", line)
    return folder


def figures(trial: Trial) -> dict[str, float]:
    images = float((trial.last or 12) - trial.first)
    return {"miou_oracle": score(trial.subnet), "miou_chosen": 0.4, "images": images, "objects": 2 * images}


def graph(name: str, milliseconds: float) -> dict:
    taken = {"torch": milliseconds, "onnxruntime": 0.9 * milliseconds}
    common = {"difference": {"out": 1.5e-06}, "tolerance": 1e-4, "threads": 1}
    return {"file": f"{name}.onnx", "latency_ms": taken, **common}


def test_every_section_shows_its_figures(folder):
    page = write_report(folder).read_text(encoding="utf8")

    for title in SECTIONS:
        part = page.split(title, 1)[1][:600]
        assert "Left out" not in part, title
    assert "40 % smaller, +2.0 mIoU points" in page
    assert "over random nets of its size" in page
    assert "random nets of one size" in page
    assert "Successive halving: after 4 images, the best 1/3" in page
    assert "2 workers, busy 67 % of the time" in page
    assert "failed after 3 tries: &lt;WorkerLost&gt;" in page
    for figure in ("encoder.onnx", "31.0", "27.9", "decoder.onnx", "7.50", "6.75", "1.5e-06", "more than 1e-04"):
        assert figure in page


def test_a_run_folder_of_an_earlier_release_is_read(folder, tmp_path):
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name.replace("random_baseline", "bands")).write_bytes(path.read_bytes())

    assert "over random nets of its size" in write_report(tmp_path).read_text(encoding="utf8")


def test_a_run_that_has_just_begun_has_a_report_too(tmp_path):
    page = write_report(tmp_path).read_text(encoding="utf8")

    assert "No sub-network has been found yet" in page
    assert page.count("Left out") >= len(SECTIONS)


def test_a_run_without_export_names_the_flag(tmp_path):
    assert "the run did not export (--onnx)" in write_report(tmp_path).read_text(encoding="utf8")


FILES = ("random_baseline.json", "study.json", "events.jsonl", "search.jsonl", "summary.json")


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_leaves_only_its_own_parts_out(folder, tmp_path, missing):
    for path in folder.iterdir():
        if path.is_file() and path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())

    assert "quatrain autotune" in write_report(tmp_path).read_text(encoding="utf8")


def test_the_report_needs_no_torch(folder):
    code = f"import sys; from quatrain.nas.autotune_report import write_report; write_report({str(folder)!r}); "
    code += "print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"
