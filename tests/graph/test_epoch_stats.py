import itertools

import pytest

from quatrain.graph import epoch_stats
from quatrain.graph.epoch_stats import EpochStats, RankStats, Step, row
from quatrain.graph.features.metrics import ReadMetrics


@pytest.fixture
def ticks(monkeypatch):
    """A clock whose times are told beforehand."""
    times = iter(())

    def tell(*told):
        nonlocal times
        times = itertools.chain(told)

    monkeypatch.setattr(epoch_stats.time, "perf_counter", lambda: next(times))
    return tell


def test_a_step_s_parts_go_into_the_books(ticks):
    ticks(0.0, 1.0, 5.0)
    book = EpochStats()
    with book.timed("wait_s"):
        pass
    counters = ReadMetrics(lookup_s=1.0, policy_s=2.0, copy_s=3.0, pull_s=7.0)
    book.count(Step([], None, None, 0.5, counters))

    assert (book.sums.wait_s, book.sums.sample_s, counters.own_s) == (4.0, 0.5, 6.0)
    assert (book.sums.lookup_s, book.sums.copy_s, book.sums.pull_s) == (3.0, 3.0, 7.0)


def test_an_epoch_is_the_longest_of_all_trainers_with_the_means_of_its_parts():
    fast = RankStats(seconds=2, wait_s=1, overhead_s=3, remote_hits=3, steps=1)
    told = row([fast, RankStats(seconds=4, remote_misses=1, loss=6, steps=1)])

    assert told["overhead_s"] == 3
    assert (told["seconds"], told["wait_s"], told["remote_hit_rate"], told["loss"]) == (4, 0.5, 0.75, 3.0)
    assert told["halo_hit_rate"] is None
