from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from quatrain.errors import UsageError
from quatrain.hpc.search_loop import HOPELESS, drive, keep_busy, under_way
from quatrain.hpc.worker import TaskError
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Space

SAM = shape("vit_mini")
SPACE = Space(full=full_subnet(SAM).widths, choices=((96, 384),) * 12, removable=(1, 5), drop_probability=(0.5, 0.5))


class Bench:
    """Workers that end their tasks when they are asked to: the newest first, so that results come out of order."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.started, self.most = answer, [], 0
        self._open: list[tuple[Trial, Future[Any]]] = []

    def __call__(self, trial: Trial) -> Future[Any]:
        future: Future[Any] = Future()
        self.started.append(trial)
        self._open.append((trial, future))
        self.most = max(self.most, len(self._open))
        if len(self._open) == 3 or len(self.started) >= 12:
            while self._open:
                done, waiting = self._open.pop()
                try:
                    waiting.set_result(self.answer(done))
                except Exception as error:  # noqa: BLE001 - as a worker's
                    waiting.set_exception(error)
        return future


def made(trial: Trial) -> dict[str, float]:
    return {"miou_oracle": sum(trial.subnet.widths) / 5000, "images": 4.0, "objects": 9.0}


@pytest.fixture
def search(tmp_path: Path) -> Search:
    bounds = Bounds.parse(SAM, max_params="80%")
    return Search(space=SPACE, bounds=bounds, journal=tmp_path / "j", seed=0, budget=12, engine="random")


def quietly(_trial: Trial) -> None:
    """Tell nobody."""


def silent(_line: str) -> None:
    """Say nothing."""


def test_every_proposal_is_measured_and_then_the_baselines(search):
    bench = Bench(made)
    drive(search, bench, 3, quietly, silent, baselines=[SPACE.largest(), SPACE.largest()])

    assert len(search.evaluations) == 13
    assert search.known(SPACE.largest())
    assert bench.most == 3


def test_a_network_that_kills_its_workers_is_set_aside_and_the_search_goes_on(search):
    poison: list[str] = []

    def answer(trial: Trial) -> dict[str, float]:
        if not poison:
            poison.append(trial.subnet.key)
        if trial.subnet.key in poison:
            raise TaskError("task measure-0003 failed after 3 tries: WorkerLost")
        return made(trial)

    said: list[str] = []
    drive(search, Bench(answer), 3, quietly, said.append)

    assert list(search.aside) == poison
    assert [poison[0] in line and "after 3 tries" in line for line in said] == [True]
    assert len(search.evaluations) == 11


def test_a_network_without_a_finite_figure_is_set_aside(search):
    def answer(trial: Trial) -> dict[str, float]:
        return {"miou_oracle": float("nan")} if trial == bench.started[0] else made(trial)

    bench = Bench(answer)
    drive(search, bench, 3, quietly, silent)

    assert list(search.aside) == [bench.started[0].subnet.key]


def test_when_everything_fails_the_search_ends_with_the_reason(search):
    def answer(_trial: Trial) -> dict[str, float]:
        raise TaskError("no module named torch")

    with pytest.raises(TaskError, match="no module named torch"):
        drive(search, Bench(answer), 3, quietly, silent)
    assert len(search.aside) == HOPELESS - 1


def test_a_mistake_of_the_users_ends_the_search_at_once(search):
    def answer(_trial: Trial) -> dict[str, float]:
        raise UsageError("the images are gone")

    with pytest.raises(UsageError, match="the images are gone"):
        drive(search, Bench(answer), 3, quietly, silent)
    assert search.aside == {}


@pytest.mark.parametrize(("workers", "queued"), [(1, 0), (2, 1), (8, 4), (9, 5)])
def test_networks_wait_in_the_queue_so_that_no_worker_waits_but_none_where_order_counts(workers, queued):
    assert under_way(workers) == workers + queued
    assert under_way(workers, in_order=True) == workers


@pytest.mark.parametrize("in_order", [True, False])
def test_results_are_handed_on_in_the_order_of_their_start_when_asked(in_order):
    numbers, seen, flying = iter(range(9)), [], []

    def start(number: int) -> Future[int]:
        future: Future[int] = Future()
        flying.append((number, future))
        if len(flying) == 3:
            for value, waiting in reversed(flying):
                waiting.set_result(value)
            flying.clear()
        return future

    keep_busy(3, lambda: next(numbers, None), start, lambda _work, value: seen.append(value), in_order=in_order)

    assert sorted(seen) == list(range(9))
    if in_order:
        assert seen == list(range(9))


def test_without_anyone_for_failures_they_are_raised():
    failing: Future[int] = Future()
    failing.set_exception(TaskError("lost"))

    with pytest.raises(TaskError, match="lost"):
        keep_busy(1, iter([1, None]).__next__, lambda _work: failing, lambda _work, _value: None)
