"""What the boost workflow makes of its workers: real processes that load a model once, and that may die."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from quatrain.data.synthetic import SyntheticImages
from quatrain.files import read_json, read_lines
from quatrain.hpc import tasks
from quatrain.workflows import boost

pytestmark = pytest.mark.slow
NAMES = ("a", "b", "c", "poison", "d", "e")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    made = SyntheticImages(count=len(NAMES), seed=0, size_px=128)
    for index, name in enumerate(NAMES):
        Image.fromarray(made.micrograph(index)[0]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(images, tmp_path, monkeypatch):
    """Return a function that boosts the images on two workers with a body of boost_bodies: run folder, exit code."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", here)
    monkeypatch.syspath_prepend(here)
    site = tmp_path / "two.py"
    site.write_text(
        "from quatrain.hpc.site import Site\n\n\ndef site():\n"
        "    return Site(name='two', description='two', cpus_per_node=2, gpu_workers=2, address='127.0.0.1',\n"
        "                startup_s=10)\n"
    )

    def go(body, *flags):
        import boost_bodies

        monkeypatch.setattr(tasks, "boost_images", getattr(boost_bodies, body))
        code = boost.main([str(images), "--site", str(site), "--run-root", str(tmp_path / "runs"), *flags])
        (folder,) = (tmp_path / "runs").iterdir()
        sys.modules.pop("boost_bodies")
        return folder, code

    return go


def states(folder):
    return {line["name"]: line["state"] for line in read_json(folder / "summary.json")["images"]}


def events(folder, state):
    return [line for line in read_lines(folder / "events.jsonl") if line["state"] == state and line["task"]]


def test_a_worker_loads_its_model_once_for_all_its_chunks(run):
    folder, code = run("counted", "--chunk=1", "--masks.points-per-side=2")

    reported = {file.stem: list(read_lines(file)) for file in (folder / "loads").iterdir()}
    assert code == 0
    assert sum(line["images"] for lines in reported.values() for line in lines) == len(NAMES)
    assert 1 <= len(reported) <= 2
    assert {line["loads"] for lines in reported.values() for line in lines} == {1}


def test_a_worker_that_is_killed_in_the_middle_of_a_chunk_costs_no_image(run):
    folder, code = run("killed_once", "--chunk=3", "--masks.source=regions")

    assert code == 0
    assert states(folder) == dict.fromkeys(NAMES, "done")
    (retried,) = events(folder, "retried")
    assert "loss of worker" in retried["message"]


def test_an_image_that_kills_every_worker_is_reported_and_the_others_arrive(run, capsys):
    folder, code = run("poisoned", "--chunk=6", "--masks.source=regions")

    assert code == 3
    assert states(folder) == {**dict.fromkeys(NAMES, "done"), "poison": "failed"}
    said = [line for line in capsys.readouterr().out.splitlines() if "failed: poison: " in line]
    assert ["WorkerLost" in line for line in said] == [True]
    assert read_json(folder / "summary.json")["failed"] == 1
