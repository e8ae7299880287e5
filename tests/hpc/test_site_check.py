from __future__ import annotations

import dataclasses

import pytest

from quatrain.hpc import site_registry
from quatrain.hpc.placement import place
from quatrain.hpc.site import Request
from quatrain.hpc.site_check import explain, problems

FINE = Request(account="m1_g", image="docker:group/q:1")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Make commands that end with a code, the only ones on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(*names, code=0):
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho {name} said so >&2\nexit {code}\n")
            (folder / name).chmod(0o755)

    return make


SLURM = ("sbatch", "squeue", "scancel", "srun", "scontrol", "salloc", "sinfo")


def test_a_machine_that_has_everything_has_no_problems(commands, tmp_path):
    commands(*SLURM, "shifterimg")

    assert problems(place(site_registry.find("perlmutter-shifter"), FINE), tmp_path / "runs") == []


def test_missing_commands_are_named(commands, tmp_path):
    commands("sbatch")

    first, second = problems(place(site_registry.find("perlmutter-shifter"), FINE), tmp_path)

    assert first.startswith("squeue, scancel, srun, scontrol, salloc not found: ")
    assert second.startswith("shifterimg not found")


def test_a_scheduler_that_does_not_answer_is_quoted(commands, tmp_path):
    commands(*SLURM, code=1)

    (text,) = problems(place(site_registry.find("perlmutter"), FINE), tmp_path)

    assert text == "Slurm does not answer: sinfo said so"


def test_an_image_that_is_not_pulled_comes_with_the_command_that_pulls_it(commands, tmp_path):
    commands(*SLURM)
    commands("shifterimg", code=1)

    (text,) = problems(place(site_registry.find("perlmutter-shifter"), FINE), tmp_path)

    assert text == "image 'docker:group/q:1' is not pulled: shifterimg pull docker:group/q:1"


def test_an_image_file_that_is_not_there_is_named(commands, tmp_path):
    commands(*SLURM, "apptainer")
    site = dataclasses.replace(site_registry.find("slurm"), container="apptainer", image=str(tmp_path / "q.sif"))

    assert "is not a file here" in problems(place(site, Request()), tmp_path)[0]
    (tmp_path / "q.sif").touch()
    assert problems(place(site, Request()), tmp_path) == []


def test_limits_and_folders_count_too(commands, tmp_path):
    commands(*SLURM)
    (tmp_path / "file").touch()

    said = problems(
        place(site_registry.find("perlmutter"), Request(account="m1", nodes=9, walltime_min=1)), tmp_path / "file"
    )

    assert [
        next(part for part in ("have the form", "over 8", "too short", "cannot be written") if part in text)
        for text in said
    ] == ["have the form", "over 8", "too short", "cannot be written"]


@pytest.mark.parametrize("name", site_registry.names())
def test_every_site_is_explained(name):
    site, text = site_registry.find(name), explain(site_registry.find(name))

    assert text.startswith(f"{name}: ")
    assert all(f"qos {qos.name}: " in text for qos in site.qos)
    assert f"container: {site.container}" in text
