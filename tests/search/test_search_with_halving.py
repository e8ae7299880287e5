from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_worlds import SAM, score, small_space, start

from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search

# Successive halving


RUNGS = (4, 12, 36)


def by_images(trial: Trial) -> dict[str, float]:
    """Figures whose mean over all images is the network's score, and which favour no network on the first ones."""
    images = range(trial.first, trial.last or RUNGS[-1])
    noise = sum(0.01 * (-1) ** (i + sum(trial.subnet.widths) // 32) for i in images) / len(images)
    return {"miou_oracle": score(trial.subnet) + noise, "objects": float(len(images)), "images": float(len(images))}


def climb(search: Search, workers: int = 1, results: int | None = None) -> None:
    """As `run`, with results that depend on the images."""
    flying: list[Trial] = []
    while results is None or results > 0:
        while len(flying) < workers and (trial := search.propose()) is not None:
            flying.append(trial)
        if not flying:
            return
        done = flying.pop(0)
        search.record(done, by_images(done))
        results = None if results is None else results - 1


@pytest.mark.parametrize("workers", [1, 5])
def test_most_networks_see_few_images_and_some_see_all(journal, workers):
    search = start(journal, budget=30, rungs=RUNGS)
    climb(search, workers)

    assert len(search.measured) == 30
    assert 30 // 9 <= len(search.evaluations) <= 8
    assert all(found.metrics["images"] == 36 for found in search.evaluations)


def test_figures_on_more_images_join_those_on_the_first(journal):
    search = start(journal, budget=6, rungs=RUNGS)
    climb(search)

    for found in search.evaluations:
        assert found.metrics == pytest.approx(by_images(Trial(subnet=found.subnet, last=36)))


@settings(max_examples=15)
@given(st.integers(0, 25), st.integers(1, 4), st.sampled_from(["random", "evolution", "opentuner"]))
def test_a_halving_that_was_interrupted_ends_as_the_undisturbed_one(stop, workers, engine):
    with TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        undisturbed = start(whole, budget=15, engine=engine, rungs=RUNGS)
        climb(undisturbed, workers)
        climb(start(broken, budget=15, engine=engine, rungs=RUNGS), workers, results=stop)
        resumed = start(broken, budget=15, engine=engine, rungs=RUNGS)
        climb(resumed, workers)

        assert broken.read_text() == whole.read_text()
        assert resumed.best() == undisturbed.best()


def test_a_baseline_is_measured_on_what_it_lacks(journal):
    search = start(journal, budget=9, rungs=RUNGS)
    climb(search)
    short = next(found for found in search.measured if found.metrics["images"] == 4)

    trial = search.baseline(short.subnet)

    assert trial == Trial(subnet=short.subnet, first=4, last=36)
    assert search.baseline(short.subnet) is None
    assert search.record(trial, by_images(trial)).metrics["images"] == 36
    assert search.baseline(search.evaluations[0].subnet) is None


def test_a_network_on_its_way_as_a_baseline_is_not_proposed_as_well(journal):
    space = small_space(widths=2, blocks=1, removable=())
    search = start(journal, space=space, bounds=Bounds(sam=SAM), budget=9)
    assert search.baseline(space.largest()) == Trial(subnet=space.largest())

    assert search.propose() == Trial(subnet=space.smallest())
    assert search.propose() is None


# What cannot be measured


def test_a_network_that_is_set_aside_never_comes_back(journal):
    search = start(journal, budget=8, rungs=RUNGS)
    poison = search.propose()
    assert poison is not None
    search.set_aside(poison, "worker died")
    climb(search, workers=2)
    resumed = start(journal, budget=8, rungs=RUNGS)

    assert search.aside == resumed.aside == {poison.subnet.key: "worker died"}
    assert len(search.measured) == 7
    assert resumed.propose() is None
    assert resumed.baseline(poison.subnet) is None


def test_a_network_that_fails_on_its_way_up_keeps_what_it_reached(journal):
    search = start(journal, budget=3, rungs=RUNGS)
    climb(search, results=3)
    going_on = search.propose()
    assert going_on is not None
    search.set_aside(going_on, "worker died")
    climb(search)

    assert search.known(going_on.subnet) is None
    assert going_on.subnet in {found.subnet for found in search.measured}
