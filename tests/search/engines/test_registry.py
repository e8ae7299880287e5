from __future__ import annotations

import builtins
import subprocess
import sys

import pytest
from search_worlds import MINI, SAM, run, start

from quatrain.errors import UsageError
from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import ENGINES, RandomEngine, check_engine, make_engine


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


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """Install a package with two engines, of which one needs a missing package."""
    (tmp_path / "dummy_engines.py").write_text(
        "class Smallest:\n"
        "    def __init__(self, space, bounds, seed): self.space = space\n"
        "    def ask(self): return self.space.smallest()\n"
        "    def tell(self, subnet, score): pass\n"
    )
    info = tmp_path / "dummy_engines-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dummy-engines\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[quatrain.engines]\nsmallest = dummy_engines:Smallest\nbroken = no_such_package:Engine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("dummy_engines", None)


def test_another_package_adds_an_engine_by_an_entry_point(other_package):
    check_engine("smallest")
    assert "dummy_engines" not in sys.modules

    assert make_engine("smallest", MINI, Bounds(sam=SAM), 0).ask() == MINI.smallest()


def test_an_engine_of_another_package_searches_like_a_built_in_one(other_package, tmp_path):
    search = start(tmp_path / "journal", budget=3, engine="smallest")
    run(search)

    assert MINI.smallest() in [found.subnet for found in search.evaluations]


def test_engines_of_other_packages_are_among_the_known_names(other_package):
    with pytest.raises(UsageError, match="did you mean 'smallest'"):
        check_engine("smalest")


def test_an_engine_whose_package_is_missing_is_refused_in_one_line(other_package):
    with pytest.raises(UsageError, match="the engine 'broken' needs no_such_package"):
        make_engine("broken", MINI, Bounds(sam=SAM), 0)


def test_engines_import_their_packages_only_when_they_are_made():
    code = "import sys; from quatrain.search.engines import registry; registry.check_engine('optuna-tpe'); "
    code += "print([name for name in ('optuna', 'opentuner', 'torch') if name in sys.modules])"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
