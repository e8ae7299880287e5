from __future__ import annotations

import itertools
from operator import attrgetter

import numpy as np
import pytest
import torch
from buffer_world import COUNT, LOCAL, configs, halos, steps
from hypothesis import given

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache, LocalPart
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache, ReadMetrics, hit_rate
from quatrain.graph.features.source import MemorySource
from quatrain.graph.prefetch import pipelined

FEATURES = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))


class RecordingSource:
    """A source that records the ids that were read."""

    def __init__(self, rows=FEATURES):
        self.source, self.requests = MemorySource(rows), []

    def read(self, vertices):
        self.requests.append(vertices.tolist())
        return self.source.read(vertices)


def own():
    return LocalPart(first=LOCAL.start, rows=FEATURES[LOCAL.start : LOCAL.stop])


def cache(halo, config, accesses, source=None, **more):
    source = source or MemorySource(FEATURES)
    return FeatureCache(source, halo, config, 3, local=own(), accesses=iter(accesses), vertex_count=COUNT, **more)


@given(halos(), configs(), steps(range(COUNT)))
def test_each_batch_equals_a_direct_read_under_every_policy(halo, config, accesses):
    features = MeasuredCache(cache(halo, config, accesses))

    for step in accesses:
        assert torch.equal(features.read(torch.from_numpy(step)), FEATURES[step])


@given(halos(), configs(), steps(range(COUNT)))
def test_a_measured_cache_makes_the_same_requests(halo, config, accesses):
    plain, measured = RecordingSource(), RecordingSource()
    features, other = cache(halo, config, accesses, plain), MeasuredCache(cache(halo, config, accesses, measured))

    for step in accesses:
        assert torch.equal(features.read(torch.from_numpy(step)), other.read(torch.from_numpy(step)))
    assert plain.requests == measured.requests


@given(halos(), configs(), steps(range(COUNT)))
def test_hits_misses_and_fetched_rows_add_up(halo, config, accesses):
    source = RecordingSource()
    features = MeasuredCache(cache(halo, config, accesses, source))
    filled = sum(map(len, source.requests))
    for step in accesses:
        features.read(torch.from_numpy(step))
    asked, metrics = np.concatenate(accesses), features.take()
    remote = asked[(asked < LOCAL.start) | (asked >= LOCAL.stop)]

    assert filled == features.capacity == config.capacity(halo.size)
    assert metrics.local_rows == len(asked) - len(remote)
    assert metrics.remote_hits + metrics.remote_misses == len(remote)
    assert metrics.halo_hits + metrics.halo_misses == np.isin(remote, halo.ids).sum()
    assert metrics.remote_rows == sum(map(len, source.requests)) - filled
    assert metrics.remote_rows >= metrics.remote_misses
    assert metrics.remote_bytes == metrics.remote_rows * 3 * 4


@given(halos(), configs(), steps(range(COUNT)))
def test_local_vertices_are_never_fetched_and_a_read_fetches_at_most_once(halo, config, accesses):
    source = RecordingSource()
    features = cache(halo, config, accesses, source)

    for step in accesses:
        before = len(source.requests)
        features.read(torch.from_numpy(step))
        assert len(source.requests) - before <= 1
    assert not set(itertools.chain(*source.requests)) & set(LOCAL)


@given(halos(), configs(["static-degree", "presample", "lfu", "belady"]), steps(range(COUNT)))
def test_only_the_paper_policy_fetches_rows_that_a_step_does_not_read(halo, config, accesses):
    source = RecordingSource()
    features = cache(halo, config, accesses, source)

    for step in accesses:
        source.requests.clear()
        features.read(torch.from_numpy(step))
        assert set(itertools.chain(*source.requests)) <= set(step.tolist())


def test_a_cache_of_the_whole_halo_fetches_each_row_once():
    source = RecordingSource()
    features = cache(HaloTable([1, 50], [1, 2]), CacheConfig(policy="static-degree", fraction=1), [], source)
    for _ in range(3):
        features.read(torch.tensor([50, 1, 25]))

    assert source.requests == [[50, 1]]


def test_without_a_local_part_all_vertices_are_remote():
    features = MeasuredCache(
        FeatureCache(MemorySource(FEATURES), HaloTable([1, 30], [1, 2]), CacheConfig(policy="lfu", fraction=0.5), 3)
    )
    features.read(torch.tensor([30, 1, 5]))

    assert (features.metrics.halo_hits, features.metrics.halo_misses, features.metrics.remote_misses) == (1, 1, 2)


def test_a_hit_rate_needs_an_access():
    assert hit_rate(3, 1) == 0.75
    assert hit_rate(0, 0) is None


def test_times_are_measured_per_part_and_reset_by_take():
    ticks = itertools.count()
    features = MeasuredCache(cache(HaloTable([1], [1]), CacheConfig(policy="lfu"), []), clock=lambda: next(ticks))
    features.read(torch.tensor([1, 2]))
    first = features.take()

    assert (first.lookup_s, first.policy_s, first.pull_s, first.copy_s) == (1, 1, 2, 2)
    assert features.metrics == ReadMetrics()


def test_an_error_of_the_source_is_raised():
    features = cache(HaloTable([1], [1]), CacheConfig(policy="lfu", fraction=0), [], MemorySource(FEATURES[:5]))

    with pytest.raises(IndexError):
        features.read(torch.tensor([50]))


@pytest.mark.parametrize(("rows", "got"), [(FEATURES[:, :2], r"\(1, 2\)"), (FEATURES.double(), "float64")])
def test_a_source_of_other_features_is_refused(rows, got):
    with pytest.raises(ValueError, match=rf"the source returned .*{got}.*; it must be \(1, 3\) torch\.float32"):
        FeatureCache(MemorySource(rows), HaloTable([1], [1]), CacheConfig(policy="lfu", fraction=1), 3)


def test_remote_candidates_need_the_size_of_the_graph():
    with pytest.raises(ValueError, match="needs vertex_count"):
        FeatureCache(MemorySource(FEATURES), HaloTable([1], [1]), CacheConfig(candidates="remote"), 3)


@pytest.mark.parametrize(
    ("first", "rows", "words"),
    [(-1, FEATURES, "vertex is -1"), (0, FEATURES.double(), "float64"), (0, FEATURES[0], r"\(3,\)")],
)
def test_an_invalid_local_part_is_refused(first, rows, words):
    with pytest.raises(ValueError, match=words):
        LocalPart(first=first, rows=rows)


@given(halos(), configs(), steps(range(COUNT)))
def test_batches_in_reused_buffers_equal_a_direct_read(halo, config, accesses):
    features = cache(halo, config, accesses, output_buffers=3)
    read = [(step, features.read(torch.from_numpy(step))) for step in accesses[:3]]

    assert all(torch.equal(rows, FEATURES[step]) for step, rows in read)
    for step in accesses[3:]:
        read = [*read[1:], (step, features.read(torch.from_numpy(step)))]
        assert all(torch.equal(rows, FEATURES[step]) for step, rows in read)


class AsyncMemorySource(MemorySource):
    """A memory source with asynchronous reads."""

    def __init__(self):
        super().__init__(FEATURES)
        self.requests = []

    def read_async(self, vertices):
        self.requests.append(vertices.tolist())
        return lambda: self.read(vertices)


@given(halos(), configs(), steps(range(COUNT)))
def test_overlapping_reads_give_and_count_the_same_as_sequential_reads(halo, config, accesses):
    overlapped, sequential = (
        MeasuredCache(cache(halo, config, accesses, AsyncMemorySource(), output_buffers=3)) for _ in range(2)
    )
    metrics = [ReadMetrics() for _ in accesses]
    reads = [torch.from_numpy(step) for step in accesses]
    finishers = pipelined(map(overlapped.start_read, reads, metrics))

    counts = attrgetter("remote_hits", "halo_hits", "remote_rows")
    for step, finish, own in zip(reads, finishers, metrics, strict=True):
        assert torch.equal(finish(), FEATURES[step])
        assert torch.equal(sequential.read(step), FEATURES[step])
        assert counts(own) == counts(sequential.take())


def test_a_read_sends_its_request_before_the_previous_read_has_finished():
    source = AsyncMemorySource()
    features = MeasuredCache(cache(HaloTable([1], [1]), CacheConfig(policy="none"), [], source))
    first, second = (features.start_read(torch.tensor([vertex]), ReadMetrics()) for vertex in (50, 51))

    assert source.requests == [[50], [51]]
    assert [first().tolist(), second().tolist()] == [FEATURES[[50]].tolist(), FEATURES[[51]].tolist()]


def test_one_output_buffer_is_refused():
    with pytest.raises(ValueError, match="output_buffers is 1"):
        cache(HaloTable([1], [1]), CacheConfig(policy="lfu"), [], output_buffers=1)
