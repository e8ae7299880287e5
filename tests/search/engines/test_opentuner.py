from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from search_worlds import MINI, score, small_space

from quatrain.search.engines.opentuner import OpenTunerEngine
from quatrain.supernet.space import Subnet

_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from search_worlds import MINI, score
from quatrain.search.engines.opentuner import OpenTunerEngine
engine, flying = OpenTunerEngine(MINI, 3), []
for _ in range(42):
    flying.append(engine.ask())
    print(flying[-1].key)
    if len(flying) == 4:
        engine.tell(flying[0], score(flying.pop(0)))
"""


def proposals(engine: OpenTunerEngine, count: int, workers: int) -> list[Subnet]:
    flying: list[Subnet] = []
    seen = []
    for _ in range(count):
        flying.append(engine.ask())
        seen.append(flying[-1])
        if len(flying) == workers:
            done = flying.pop(0)
            engine.tell(done, score(done))
    return seen


def test_it_repeats_itself_in_every_process_under_one_seed():
    seen = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(Path(__file__).parents[1])],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]

    assert len(seen[0]) == 42
    assert seen[0] == seen[1]


def test_seeds_differ():
    assert proposals(OpenTunerEngine(MINI, 0), 5, 1) != proposals(OpenTunerEngine(MINI, 1), 5, 1)


def test_many_may_be_in_flight_and_be_reported_late():
    seen = proposals(OpenTunerEngine(MINI, 0), 60, workers=45)

    for subnet in seen:
        MINI.check(subnet)
    assert len({subnet.key for subnet in seen}) > 50


def test_it_learns():
    engine = OpenTunerEngine(MINI, 0)
    seen = [score(subnet) for subnet in proposals(engine, 90, workers=1)]

    assert sum(seen[-20:]) / 20 > sum(seen[:20]) / 20


def test_a_score_for_a_network_that_it_never_asked_for_guides_it_too():
    engine = OpenTunerEngine(MINI, 0)
    engine.tell(MINI.largest(), 0.9)
    seen = []
    for _ in range(20):
        seen.append(engine.ask())
        engine.tell(seen[-1], 0.1)

    assert min(_distance(subnet, MINI.largest()) for subnet in seen) <= 4


def _distance(one: Subnet, other: Subnet) -> int:
    return sum(a != b for a, b in zip(one.widths, other.widths, strict=True))


@pytest.mark.parametrize("widths", [1, 2, 3])
@pytest.mark.parametrize("removable", [(), (1,), (0, 1, 2, 3)])
def test_small_spaces_neither_crash_nor_hang_it(widths, removable):
    space = small_space(widths, blocks=2, removable=removable)

    for subnet in proposals(OpenTunerEngine(space, 0), 40, workers=3):
        space.check(subnet)


def test_the_process_around_it_is_left_as_it_was(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.chdir(tmp_path)
    root, formatter = logging.getLogger(), logging.Formatter
    before = (list(root.handlers), root.level)
    random.seed(5)
    expected = random.Random(5).random()

    proposals(OpenTunerEngine(MINI, 0), 40, workers=4)

    assert random.random() == expected
    assert (list(root.handlers), root.level) == before
    assert logging.Formatter is formatter is logging.Formatter
    assert logging.Formatter.__module__ == "logging"
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_two_searches_in_one_process_do_not_disturb_each_other():
    alone = proposals(OpenTunerEngine(MINI, 0), 20, workers=1)
    one, other = OpenTunerEngine(MINI, 0), OpenTunerEngine(MINI, 1)
    beside = []
    for _ in range(20):
        beside += proposals(one, 1, workers=1)
        proposals(other, 1, workers=1)

    assert beside == alone


def test_another_thread_is_refused_with_a_message():
    engine = OpenTunerEngine(MINI, 0)
    refusals: list[str] = []

    def ask() -> None:
        try:
            engine.ask()
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    assert refusals == ["OpenTuner works only in the thread that made the engine"]
