from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_worlds import MINI, SAM, bounded, outcome, results, run, score, small_space, start

from quatrain.errors import UsageError
from quatrain.files import read_lines
from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import ENGINES, RandomEngine
from quatrain.search.evaluations import Trial
from quatrain.search.neighbours import within
from quatrain.supernet.cost import encoder_parameters
from quatrain.supernet.space import Subnet

# What every search keeps


@settings(max_examples=15)
@given(bounded(), st.sampled_from(sorted(ENGINES)), st.integers(1, 9), st.integers(0, 3))
def test_no_network_is_proposed_twice_or_outside_the_bounds(world, engine, workers, seed):
    space, bounds = world
    proposed: list[Subnet] = []
    with TemporaryDirectory() as folder:
        search = start(Path(folder, "j"), space=space, bounds=bounds, engine=engine, budget=12, seed=seed)
        run(search, workers, see=proposed.append)

    assert len(set(proposed)) == len(proposed)
    assert all(bounds.admits(subnet) for subnet in proposed)
    for subnet in proposed:
        space.check(subnet)


@settings(max_examples=25)
@given(bounded(), st.integers(1, 5))
def test_a_space_that_ends_before_the_budget_is_searched_whole(world, workers):
    space, bounds = world
    every = list(within(space, bounds))
    proposed: list[Subnet] = []
    with TemporaryDirectory() as folder:
        run(start(Path(folder, "j"), space=space, bounds=bounds, budget=60), workers, see=proposed.append)

    assert len(proposed) == min(60, len(every))


def test_opentuner_too_searches_a_small_space_whole(journal):
    space = small_space(widths=3, blocks=2, removable=(1,))
    search = start(journal, space=space, bounds=Bounds(sam=SAM), engine="opentuner", budget=50)

    run(search, workers=4)

    assert len(search.evaluations) == space.size() == 12
    assert search.propose() is None


@settings(max_examples=20)
@given(st.integers(0, 12), st.integers(1, 4), st.booleans())
def test_a_resumed_search_ends_as_the_undisturbed_one(stop, workers, torn):
    with TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        undisturbed = start(whole, budget=15)
        run(undisturbed, workers)
        run(start(broken, budget=15), workers, results=stop)
        if torn:
            with broken.open("a") as file:
                file.write('{"event": "prop')
        resumed = start(broken, budget=15)
        run(resumed, workers)

        assert sorted(outcome(broken)) == sorted(set(outcome(broken)))
        assert resumed.evaluations == undisturbed.evaluations
        assert outcome(broken) == outcome(whole)


@pytest.mark.parametrize("workers", [1, 5])
def test_opentuner_goes_on_where_a_crash_stopped_it(tmp_path, workers):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = start(whole, engine="opentuner", budget=38)
    run(undisturbed, workers)
    run(start(broken, engine="opentuner", budget=38), workers, results=33)

    resumed = start(broken, engine="opentuner", budget=38)
    run(resumed, workers)

    assert outcome(broken) == outcome(whole)
    assert resumed.evaluations == undisturbed.evaluations
    assert resumed.best() == undisturbed.best()


def test_no_result_beats_one_of_the_front(journal):
    search = start(journal, budget=25)
    run(search)
    front = search.pareto()

    assert [found.params for found in front] == sorted(found.params for found in front)
    for kept in front:
        assert not any(found.params < kept.params and found.score >= kept.score for found in search.evaluations)
        assert not any(found.params <= kept.params and found.score > kept.score for found in search.evaluations)


# Records


def test_a_result_is_on_disk_with_exact_sizes_before_record_returns(journal):
    search = start(journal)
    trial = search.propose()
    assert trial is not None
    subnet = trial.subnet

    recorded = search.record(trial, {"miou_oracle": 0.5, "images": 48})

    line = list(read_lines(journal))[-1]
    assert line["metrics"] == {"miou_oracle": 0.5, "images": 48.0}
    assert line["params"] == recorded.params == encoder_parameters(SAM, subnet)
    assert search.known(subnet) == recorded


def test_a_baseline_is_remembered_but_best_only_within_the_bounds(journal):
    search = start(journal)
    run(search, results=3)
    search.record(Trial(subnet=MINI.largest()), {"miou_oracle": 0.99})
    search.record(Trial(subnet=MINI.smallest()), {"miou_oracle": 0.98})

    best = search.best()

    assert best is not None
    assert best.subnet == MINI.smallest()
    assert not best.proposed
    assert MINI.largest() in {found.subnet for found in search.pareto()}


def test_baselines_cost_no_budget_and_are_never_proposed(journal):
    space = small_space(widths=2, blocks=1, removable=())
    search = start(journal, space=space, bounds=Bounds(sam=SAM), budget=9)
    search.record(Trial(subnet=space.largest()), {"miou_oracle": 0.5})

    assert search.left == 9
    assert search.propose() == Trial(subnet=space.smallest())
    assert search.propose() is None


def test_of_equally_good_networks_the_smaller_is_best(journal):
    search = start(journal)
    run(search, workers=3, results=0)
    for subnet in [search.propose() for _ in range(6)]:
        assert subnet is not None
        search.record(subnet, {"miou_oracle": 0.5})

    best = search.best()

    assert best is not None
    assert best.params == min(found.params for found in search.evaluations)


def test_before_any_result_there_is_no_best_and_no_front(journal):
    search = start(journal)

    assert search.best() is None
    assert search.pareto() == ()
    assert search.evaluations == ()


def test_another_objective_is_raised_when_asked_for(journal):
    search = start(journal, objective="miou_chosen")
    subnet = search.propose()
    assert subnet is not None

    assert search.record(subnet, {"miou_oracle": 0.9, "miou_chosen": 0.7}).score == 0.7


@pytest.mark.parametrize("metrics", [{}, {"miou_oracle": math.nan}, {"miou_chosen": 0.5}])
def test_a_result_without_a_finite_objective_is_refused(journal, metrics):
    search = start(journal)

    with pytest.raises(ValueError, match=r"miou_oracle of .* is nan"):
        search.record(Trial(subnet=MINI.smallest()), metrics)
    assert results(journal) == []


def test_a_second_result_for_one_network_is_refused(journal):
    search = start(journal)
    search.record(Trial(subnet=MINI.smallest()), {"miou_oracle": 0.5})

    with pytest.raises(ValueError, match="has a result already"):
        search.record(Trial(subnet=MINI.smallest()), {"miou_oracle": 0.6})


def test_a_network_of_another_space_is_refused(journal):
    with pytest.raises(ValueError, match="block 0 cannot be 100 wide"):
        start(journal).record(Trial(subnet=Subnet(widths=(100,) * 12)), {"miou_oracle": 0.5})


# Flight and budget


def test_the_budget_counts_proposals_and_can_be_raised_later(journal):
    run(start(journal, budget=4))
    longer = start(journal, budget=6)

    assert longer.left == 2
    run(longer)
    assert len(longer.evaluations) == 6


def test_networks_lost_in_a_crash_are_proposed_again_first(journal):
    search = start(journal, budget=10)
    lost = [search.propose() for _ in range(3)]
    resumed = start(journal, budget=10)

    assert resumed.left == 10
    assert [resumed.propose() for _ in range(3)] == lost
    assert len(outcome(journal)) == 3


def test_scores_of_repaired_networks_reach_the_engine_as_its_own(journal, monkeypatch):
    reported: dict[str, float] = {}

    class Spy(RandomEngine):
        def tell(self, subnet: Subnet, score: float) -> None:
            reported[subnet.key] = score

        def ask(self) -> Subnet:
            return MINI.largest()

    monkeypatch.setitem(ENGINES, "spy", Spy)
    search = start(journal, engine="spy")
    repaired = search.propose()
    assert repaired is not None

    search.record(repaired, {"miou_oracle": 0.7})

    assert reported == {MINI.largest().key: 0.7, repaired.subnet.key: 0.7}


def test_a_result_outside_the_bounds_never_guides_the_engine(journal, monkeypatch):
    reported: list[str] = []
    monkeypatch.setattr(RandomEngine, "tell", lambda _engine, subnet, _score: reported.append(subnet.key))
    search = start(journal)

    search.record(Trial(subnet=MINI.largest()), {"miou_oracle": 0.99})

    assert reported == []


def test_an_engine_that_repeats_itself_does_not_stop_the_search(journal, monkeypatch):
    class Stuck(RandomEngine):
        def ask(self) -> Subnet:
            return MINI.smallest()

    monkeypatch.setitem(ENGINES, "stuck", Stuck)
    search = start(journal, engine="stuck", budget=12)
    run(search, workers=3)

    assert len({found.subnet for found in search.evaluations}) == 12


# Journals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, this one has 1"),
        ({"engine": "opentuner"}, "engine 'random', this one has 'opentuner'"),
        ({"objective": "miou_chosen"}, "objective 'miou_oracle'"),
        ({"bounds": Bounds.parse(SAM, max_params="70%")}, "max_params"),
        ({"space": small_space(2, 2, ())}, "space"),
    ],
)
def test_the_journal_of_another_search_is_refused(journal, change, words):
    start(journal)

    with pytest.raises(UsageError, match=words):
        start(journal, **({"bounds": Bounds.parse(SAM, max_params="60%")} | change))


def test_a_file_that_is_no_journal_is_refused(journal):
    journal.write_text('{"step": 1}\n')

    with pytest.raises(UsageError, match="event None"):
        start(journal)


def test_a_journal_whose_first_line_was_torn_starts_afresh(journal):
    journal.write_text('{"event": "sta')
    run(start(journal, budget=3))

    assert len(start(journal, budget=3).evaluations) == 3


def test_impossible_bounds_leave_no_journal(journal):
    with pytest.raises(UsageError, match="no sub-network"):
        start(journal, bounds=Bounds(sam=SAM, max_params=5))
    assert not journal.exists()


def test_a_negative_budget_is_refused(journal):
    with pytest.raises(ValueError, match="budget is -1"):
        start(journal, budget=-1)


def test_when_the_engine_has_changed_its_mind_nothing_is_evaluated_twice(journal, monkeypatch, caplog):
    run(start(journal, budget=5), workers=2, results=3)
    monkeypatch.setitem(ENGINES, "random", lambda space, bounds, seed: RandomEngine(space, bounds, seed + 1))

    resumed = start(journal, budget=9)
    run(resumed)

    assert "continues from the results" in caplog.text
    assert sorted(results(journal)) == sorted(set(results(journal)))
    assert len(resumed.evaluations) == 9
    assert resumed.best() == max(resumed.evaluations, key=lambda found: score(found.subnet))
