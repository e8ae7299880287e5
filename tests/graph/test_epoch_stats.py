import itertools

import pytest

from quatrain.graph import epoch_stats
from quatrain.graph.epoch_stats import EpochStats, RankStats, joined_row
from quatrain.graph.features.metrics import ReadMetrics
from quatrain.graph.prefetch import PreparedBatch


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the next times of the clock."""
    times = iter(())

    def set_times(*values):
        nonlocal times
        times = itertools.chain(values)

    monkeypatch.setattr(epoch_stats.time, "perf_counter", lambda: next(times))
    return set_times


def test_times_of_waiting_and_of_preparation_are_added(clock):
    clock(0.0, 1.0, 5.0)
    stats = EpochStats()
    with stats.timed("wait_s"):
        pass
    metrics = ReadMetrics(lookup_s=1.0, policy_s=2.0, copy_s=3.0, pull_s=7.0)
    stats.count(PreparedBatch([], None, None, 0.5, metrics))

    assert (stats.sums.wait_s, stats.sums.sample_s, metrics.cache_s) == (4.0, 0.5, 6.0)
    assert (stats.sums.lookup_s, stats.sums.copy_s, stats.sums.pull_s) == (3.0, 3.0, 7.0)


def test_an_epoch_has_the_longest_time_of_all_trainers_and_the_means_of_its_parts():
    fast = RankStats(seconds=2, wait_s=1, overhead_s=3, remote_hits=3, steps=1)
    row = joined_row([fast, RankStats(seconds=4, remote_misses=1, loss=6, steps=1)])

    assert row["overhead_s"] == 3
    assert (row["seconds"], row["wait_s"], row["remote_hit_rate"], row["loss"]) == (4, 0.5, 0.75, 3.0)
    assert row["halo_hit_rate"] is None
