from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from buffer_world import COUNT, LOCAL, configs, halos, steps
from hypothesis import given

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache, LocalPart
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache, ReadMetrics
from quatrain.graph.features.source import MemorySource
from quatrain.graph.prefetch import pipelined

FEATURES = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))


class Asked:
    """A source that remembers what it was asked for."""

    def __init__(self, rows=FEATURES):
        self.source, self.asked = MemorySource(rows), []

    def read(self, vertices):
        self.asked.append(vertices.tolist())
        return self.source.read(vertices)


def own():
    return LocalPart(first=LOCAL.start, rows=FEATURES[LOCAL.start : LOCAL.stop])


def buffer(halo, config, accesses, source=None, **more):
    source = source or MemorySource(FEATURES)
    return FeatureCache(source, halo, config, 3, local=own(), accesses=iter(accesses), vertex_count=COUNT, **more)


@given(halos(), configs(), steps(range(COUNT)))
def test_every_batch_equals_a_direct_pull_under_every_policy(halo, config, accesses):
    features = MeasuredCache(buffer(halo, config, accesses))

    for step in accesses:
        assert torch.equal(features.read(torch.from_numpy(step)), FEATURES[step])


@given(halos(), configs(), steps(range(COUNT)))
def test_counting_changes_nothing(halo, config, accesses):
    plain, counted = Asked(), Asked()
    features, other = buffer(halo, config, accesses, plain), MeasuredCache(buffer(halo, config, accesses, counted))

    for step in accesses:
        assert torch.equal(features.read(torch.from_numpy(step)), other.read(torch.from_numpy(step)))
    assert plain.asked == counted.asked


@given(halos(), configs(), steps(range(COUNT)))
def test_hits_misses_and_rows_add_up_to_what_was_asked_for(halo, config, accesses):
    source = Asked()
    features = MeasuredCache(buffer(halo, config, accesses, source))
    filled = sum(map(len, source.asked))
    for step in accesses:
        features.read(torch.from_numpy(step))
    asked, counters = np.concatenate(accesses), features.take()
    remote = asked[(asked < LOCAL.start) | (asked >= LOCAL.stop)]

    assert filled == features.rows == config.rows(halo.size)
    assert counters.local_rows == len(asked) - len(remote)
    assert counters.remote_hits + counters.remote_misses == len(remote)
    assert counters.halo_hits + counters.halo_misses == np.isin(remote, halo.ids).sum()
    assert counters.remote_rows == sum(map(len, source.asked)) - filled
    assert counters.remote_rows >= counters.remote_misses
    assert counters.remote_bytes == counters.remote_rows * 3 * 4


@given(halos(), configs(), steps(range(COUNT)))
def test_own_vertices_are_never_pulled_and_a_step_pulls_at_most_once(halo, config, accesses):
    source = Asked()
    features = buffer(halo, config, accesses, source)

    for step in accesses:
        before = len(source.asked)
        features.read(torch.from_numpy(step))
        assert len(source.asked) - before <= 1
    assert not set(itertools.chain(*source.asked)) & set(LOCAL)


@given(halos(), configs(["static-degree", "presample", "counts", "schedule"]), steps(range(COUNT)))
def test_only_the_published_scheme_pulls_rows_that_a_step_does_not_read(halo, config, accesses):
    source = Asked()
    features = buffer(halo, config, accesses, source)

    for step in accesses:
        source.asked.clear()
        features.read(torch.from_numpy(step))
        assert set(itertools.chain(*source.asked)) <= set(step.tolist())


def test_a_buffer_of_the_whole_halo_pulls_once_and_never_again():
    source = Asked()
    features = buffer(HaloTable([1, 50], [1, 2]), CacheConfig(policy="static-degree", fraction=1), [], source)
    for _ in range(3):
        features.read(torch.tensor([50, 1, 25]))

    assert source.asked == [[50, 1]]


def test_without_own_rows_everything_is_remote():
    features = MeasuredCache(
        FeatureCache(MemorySource(FEATURES), HaloTable([1, 30], [1, 2]), CacheConfig(policy="counts", fraction=0.5), 3)
    )
    features.read(torch.tensor([30, 1, 5]))

    assert (features.counters.halo_hits, features.counters.halo_misses, features.counters.remote_misses) == (1, 1, 2)


def test_hit_rates_leave_out_what_was_not_asked_for():
    counters = ReadMetrics(halo_hits=3, halo_misses=1, remote_hits=3, remote_misses=3)

    assert (counters.halo_hit_rate, counters.remote_hit_rate) == (0.75, 0.5)
    assert ReadMetrics().halo_hit_rate is None


def test_time_is_told_by_part_and_counted_anew_after_each_epoch():
    ticks = itertools.count()
    features = MeasuredCache(buffer(HaloTable([1], [1]), CacheConfig(policy="counts"), []), clock=lambda: next(ticks))
    features.read(torch.tensor([1, 2]))
    first = features.take()

    assert (first.lookup_s, first.policy_s, first.pull_s, first.copy_s) == (1, 1, 2, 2)
    assert features.counters == ReadMetrics()


def test_an_error_of_the_source_arrives():
    features = buffer(HaloTable([1], [1]), CacheConfig(policy="counts", fraction=0), [], MemorySource(FEATURES[:5]))

    with pytest.raises(IndexError):
        features.read(torch.tensor([50]))


@pytest.mark.parametrize(("rows", "got"), [(FEATURES[:, :2], r"\(1, 2\)"), (FEATURES.double(), "float64")])
def test_a_source_of_other_features_is_refused(rows, got):
    with pytest.raises(ValueError, match=rf"the source returned .*{got}.*; it must be \(1, 3\) torch\.float32"):
        FeatureCache(MemorySource(rows), HaloTable([1], [1]), CacheConfig(policy="counts", fraction=1), 3)


def test_remote_candidates_need_the_size_of_the_graph():
    with pytest.raises(ValueError, match="needs vertex_count"):
        FeatureCache(MemorySource(FEATURES), HaloTable([1], [1]), CacheConfig(candidates="remote"), 3)


@pytest.mark.parametrize(
    ("first", "rows", "words"),
    [(-1, FEATURES, "vertex is -1"), (0, FEATURES.double(), "float64"), (0, FEATURES[0], r"\(3,\)")],
)
def test_own_vertices_that_cannot_be_are_refused(first, rows, words):
    with pytest.raises(ValueError, match=words):
        LocalPart(first=first, rows=rows)


@given(halos(), configs(), steps(range(COUNT)))
def test_batches_that_share_memory_equal_a_direct_pull_too(halo, config, accesses):
    features = buffer(halo, config, accesses, turns=3)
    read = [(step, features.read(torch.from_numpy(step))) for step in accesses[:3]]

    assert all(torch.equal(rows, FEATURES[step]) for step, rows in read)
    for step in accesses[3:]:
        read = [*read[1:], (step, features.read(torch.from_numpy(step)))]
        assert all(torch.equal(rows, FEATURES[step]) for step, rows in read)


class Mailed(MemorySource):
    """A source that is asked first and answers, in the same order, when it is waited for."""

    def __init__(self):
        super().__init__(FEATURES)
        self.asked = []

    def ask(self, vertices):
        self.asked.append(vertices.tolist())
        return lambda: self.read(vertices)


@given(halos(), configs(), steps(range(COUNT)))
def test_a_read_that_begins_before_the_last_has_ended_gives_and_counts_the_same(halo, config, accesses):
    overlapped, in_turn = (MeasuredCache(buffer(halo, config, accesses, Mailed(), turns=3)) for _ in range(2))
    counters = [ReadMetrics() for _ in accesses]
    reads = [torch.from_numpy(step) for step in accesses]
    ends = pipelined(map(overlapped.begin, reads, counters))

    for step, end, own in zip(reads, ends, counters, strict=True):
        assert torch.equal(end(), FEATURES[step])
        assert torch.equal(in_turn.read(step), FEATURES[step])
        told = in_turn.take()
        assert (own.remote_hits, own.halo_hits, own.remote_rows) == (told.remote_hits, told.halo_hits, told.remote_rows)


def test_rows_are_asked_for_before_those_of_the_read_before_have_come():
    source = Mailed()
    features = MeasuredCache(buffer(HaloTable([1], [1]), CacheConfig(policy="none"), [], source))
    first, second = (features.begin(torch.tensor([vertex]), ReadMetrics()) for vertex in (50, 51))

    assert source.asked == [[50], [51]]
    assert [first().tolist(), second().tolist()] == [FEATURES[[50]].tolist(), FEATURES[[51]].tolist()]


def test_a_batch_must_outlive_the_next():
    with pytest.raises(ValueError, match="turns is 1"):
        buffer(HaloTable([1], [1]), CacheConfig(policy="counts"), [], turns=1)
