"""A network that takes every worker down which measures it, on real worker processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from poisoned import measure

from quatrain.files import read_lines
from quatrain.hpc import site_registry
from quatrain.hpc.apps import open_workers
from quatrain.hpc.placement import place
from quatrain.hpc.run import Run
from quatrain.hpc.search_loop import drive
from quatrain.hpc.site import Request
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.search import Search
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Space

SAM = shape("vit_mini")
SPACE = Space(full=full_subnet(SAM).widths, choices=((96, 384),) * 12, removable=(1, 5), drop_probability=(0.5, 0.5))


def search_over(journal: Path) -> Search:
    bounds = Bounds.parse(SAM, max_params="80%")
    return Search(space=SPACE, bounds=bounds, journal=journal, seed=0, budget=10, engine="random")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_network_that_kills_its_workers_is_set_aside_with_one_line_and_the_others_are_measured(
    end, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    trial = search_over(tmp_path / "other.jsonl").propose()
    assert trial is not None
    poison, said = trial.subnet.key, []
    site = replace(site_registry.find("local"), gpu_workers=2)
    with (
        Run.create("autotune", {"end": end}, root=tmp_path) as run,
        open_workers(run, place(site, Request())) as workers,
    ):
        search = search_over(run.path / "search.jsonl")
        start = workers.app(measure, shape="gpu", name="measure")

        drive(search, lambda given: start(given.subnet.key, poison, end), 2, lambda _trial: None, said.append)

    assert list(search.aside) == [poison]
    assert len(search.evaluations) == 9
    assert [poison in line and "after 4 tries" in line and "\n" not in line for line in said] == [True]
    lines = [line for line in read_lines(run.path / "events.jsonl") if str(line["task"]).startswith("measure")]
    assert Counter(line["state"] for line in lines)["retried"] == 3
    again = search_over(run.path / "search.jsonl")
    assert list(again.aside) == [poison]
    assert again.propose() is None
