"""What a dry run prints for every site, word for word; QUATRAIN_GOLDEN=write renews it."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest

from quatrain.hpc import site_registry
from quatrain.hpc.dry_run import describe
from quatrain.hpc.placement import place
from quatrain.hpc.plan import Step
from quatrain.hpc.site import Request
from quatrain.hpc.submit import job_script

GOLDEN = Path(__file__).parent / "golden"
PLAN = (
    Step(name="train", shape="block", count=1, seconds=1200),
    Step(name="measure", shape="gpu", count=640, seconds=60),
)
KEPT = Request(account="m1234_g", nodes=4, walltime_min=120, qos="regular")
BROKEN = Request(account="m1234", nodes=9, walltime_min=31, qos="debug")
REQUESTS = {
    "local": Request(),
    "local-threads": Request(),
    "slurm": Request(nodes=2, walltime_min=60, partition="a100", gpus_per_node=8, constraint="nvlink"),
    "perlmutter": KEPT,
    "perlmutter-shifter": dataclasses.replace(KEPT, image="docker:group/quatrain:1"),
    "perlmutter-podman": dataclasses.replace(KEPT, image="group/quatrain:1"),
}


@pytest.fixture(autouse=True)
def one_machine(monkeypatch):
    """The same processors and addresses everywhere."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(4)))
    monkeypatch.setattr("quatrain.hpc.config.addresses", lambda: ["10.0.0.1"])


def same_everywhere(text):
    text = text.replace(str(Path(sys.executable).parent), "BIN").replace(Path(sys.executable).name, "python")
    return re.sub(r"^(.*) +$", r"\1", text, flags=re.MULTILINE) + "\n"


def held_against(name, text):
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("QUATRAIN_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(same_everywhere(text))
    assert same_everywhere(text) == path.read_text()


@pytest.mark.parametrize("name", site_registry.names())
def test_a_dry_run_prints_what_it_always_printed(name):
    held_against(name, describe(place(site_registry.find(name), REQUESTS[name]), PLAN, Path("/runs/nas-TIME-cafe")))


def test_every_limit_that_is_broken_is_printed():
    text = describe(place(site_registry.find("perlmutter"), BROKEN), PLAN, Path("/runs/nas-TIME-cafe"))

    held_against("perlmutter-broken-limits", text)
    assert text.count("  account ") + text.count("  --nodes 9") + text.count("  --walltime 31 is over") == 3


@pytest.mark.parametrize("name", ["perlmutter", "perlmutter-shifter", "slurm"])
def test_the_drivers_own_job_is_what_it_always_was(name):
    held_against(
        f"{name}-job", job_script(place(site_registry.find(name), REQUESTS[name]), "nas", Path("/runs/nas-TIME-cafe"))
    )
