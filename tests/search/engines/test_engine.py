from __future__ import annotations

import builtins
import sys

import pytest
from search_worlds import MINI, SAM

from quatrain.errors import UsageError
from quatrain.search.constraints import Bounds
from quatrain.search.engines.engine import ENGINES, RandomEngine, check_engine, make_engine


def test_every_engine_in_the_table_proposes_networks_of_the_space():
    for name in ENGINES:
        MINI.check(make_engine(name, MINI, Bounds(sam=SAM), 0).ask())


def test_an_unknown_engine_is_answered_with_the_nearest_name():
    with pytest.raises(UsageError, match="no engine 'opentune': did you mean 'opentuner'"):
        make_engine("opentune", MINI, Bounds(sam=SAM), 0)
    with pytest.raises(UsageError, match="known: additive, evolution, opentuner, optuna-nsga2"):
        check_engine("simulated annealing")


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    real = builtins.__import__

    def without_opentuner(name, *rest, **more):
        if name.partition(".")[0] == "opentuner":
            raise ModuleNotFoundError("No module named 'opentuner'", name="opentuner")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_opentuner)
    monkeypatch.delitem(sys.modules, "quatrain.search.engines.opentuner", raising=False)

    with pytest.raises(UsageError, match=r"needs opentuner: pip install 'quatrain\[search\]'"):
        make_engine("opentuner", MINI, Bounds(sam=SAM), 0)


def test_the_random_engine_repeats_under_its_seed_and_never_learns():
    one, other, third = (
        RandomEngine(MINI, Bounds(sam=SAM), 7),
        RandomEngine(MINI, Bounds(sam=SAM), 7),
        RandomEngine(MINI, Bounds(sam=SAM), 8),
    )
    first = [one.ask() for _ in range(5)]
    for subnet in first:
        other.tell(subnet, 1.0)

    assert [other.ask() for _ in range(5)] == first
    assert [third.ask() for _ in range(5)] != first
