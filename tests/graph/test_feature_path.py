"""The parts together as in a trainer: sampling, look-ahead, cache, trace, prefetch, replay; and TracingReader alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from throttled import ThrottledSource

from quatrain.graph.config import CacheConfig
from quatrain.graph.feature_path import TracingReader
from quatrain.graph.features.cache import FeatureCache, LocalPart
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache, ReadMetrics
from quatrain.graph.features.policies import BUILT_IN
from quatrain.graph.features.source import IndexedSource, MemorySource
from quatrain.graph.loader import Batch, PeekableBatches
from quatrain.graph.prefetch import LookAhead
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter, read_trace
from quatrain.graph.tuning.tune import TuneConfig, table, tune

COUNT, FIRST, STOP, DIM, EPOCHS, STEPS = 3000, 1000, 2000, 5, 3, 8
FEATURES = torch.randn(COUNT, DIM, generator=torch.Generator().manual_seed(1))


def sample(seed=0):
    """Batches as a sampler yields them: distinct ids in any order, few of them often."""
    rng = np.random.default_rng(seed)
    for number in range(EPOCHS * STEPS):
        ids = rng.permutation(np.unique((COUNT * rng.random(600) ** 2).astype(np.int64)))
        yield Batch(torch.from_numpy(ids), torch.tensor([number]), [], 0.0)


def halo():
    seen = np.unique(np.concatenate([batch.inputs.numpy() for batch in sample()]))
    ids = seen[(seen < FIRST) | (seen >= STOP)][::2]  # the other half is out of the halo
    return HaloTable(ids, COUNT - ids)


def own():
    return LocalPart(first=FIRST, rows=FEATURES[FIRST:STOP])


def configs():
    for spec in BUILT_IN:
        for candidates in spec.candidates:
            yield CacheConfig(policy=spec.name, interval=2, window=4, candidates=candidates, carry=False)
    yield CacheConfig(policy="belady", window=4, candidates="remote", carry=True)


def cache(config, accesses, source=None):
    source = source or MemorySource(FEATURES)
    return FeatureCache(source, halo(), config, DIM, local=own(), accesses=accesses, vertex_count=COUNT)


def prepare(features, batch):
    return batch, features.read(batch.inputs)


@pytest.mark.parametrize("config", list(configs()), ids=lambda one: f"{one.policy}-{one.candidates}-{one.carry}")
def test_batches_equal_those_of_the_source_and_counts_equal_those_of_the_replay(config, tmp_path):
    batches = PeekableBatches(sample())
    accesses = batches.peek_inputs() if config.policy == "belady" else (batch.inputs for batch in sample())
    source = ThrottledSource(IndexedSource(FEATURES), mbit_s=1e9, sleep=lambda _: None)
    features = MeasuredCache(cache(config, accesses, source))
    with TraceWriter(tmp_path / "trace.h5", TraceSetup(halo=halo(), dim=DIM, vertex_count=COUNT)) as writer:

        def read(batch):
            writer.read(batch.inputs.numpy(), range(FIRST, STOP))
            return batch, features.read(batch.inputs)

        with LookAhead(map(read, batches), depth=2) as ahead:
            equal = [(int(batch.outputs), torch.equal(rows, FEATURES[batch.inputs])) for batch, rows in ahead]
    replayed, metrics = replay(read_trace(tmp_path / "trace.h5"), config), features.take()

    assert equal == [(number, True) for number in range(EPOCHS * STEPS)]
    assert replayed.halo_hits.sum() == metrics.halo_hits
    assert replayed.remote_hits.sum() == metrics.remote_hits
    assert replayed.remote_rows.sum() == metrics.remote_rows


def test_carried_rows_remain_valid_while_training_holds_several_batches():
    batches = PeekableBatches(sample())
    features = cache(CacheConfig(policy="belady", window=4, carry=True), batches.peek_inputs())
    with LookAhead(map(partial(prepare, features), batches), depth=3) as ahead:
        held = list(ahead)

    assert all(torch.equal(rows, FEATURES[batch.inputs]) for batch, rows in held)


def test_the_tuner_ranks_a_recorded_run(tmp_path):
    with TraceWriter(tmp_path / "trace.h5", TraceSetup(halo=halo(), dim=DIM, vertex_count=COUNT)) as writer:
        for number, batch in enumerate(sample(), start=1):
            writer.read(batch.inputs.numpy(), range(FIRST, STOP))
            if number % STEPS == 0:
                writer.next_epoch()
        writer.times(sample_s=0.001, train_s=0.001)
    ranked = tune(tmp_path / "trace.h5", TuneConfig(mbit_s=0.1, fractions=(0.25,)), clock=lambda: 0.0)

    assert ranked[0].buffer.policy == "belady"
    assert ranked[0].buffer.effective_carry
    assert ranked[0].remote_bytes < next(one for one in ranked if one.buffer.policy == "none").remote_bytes
    assert table(ranked).splitlines()[1].split()[0] == "belady"


def test_another_seed_than_the_announced_one_is_an_error():
    features = cache(CacheConfig(), (batch.inputs for batch in sample(seed=1)))
    with (
        LookAhead(map(partial(prepare, features), sample())) as ahead,
        pytest.raises(ValueError, match="does not match the one announced"),
    ):
        next(ahead)


class ConstantReader:
    def start_read(self, ids_n, metrics):  # noqa: ARG002 - the protocol's arguments
        return lambda: FEATURES[ids_n]


def test_a_trace_has_epochs_remote_reads_and_times(tmp_path):
    setup = TraceSetup(halo=HaloTable([1, 12], [1, 1]), dim=DIM, vertex_count=20)
    reader = TracingReader(ConstantReader(), TraceWriter(tmp_path / "t.h5", setup), range(5, 10), steps=2)
    for number in range(3):
        reader.start_read(torch.tensor([1, 5, 9, 12 + number]), ReadMetrics())
        reader.step_times.append((0.25, 0.5))
    reader.close()

    trace = read_trace(tmp_path / "t.h5")
    assert [step.tolist() for step in trace.steps()] == [[1, 12], [1, 13], [1, 14]]
    assert (trace.local.tolist(), trace.epoch.tolist()) == ([2, 2, 2], [0, 0, 1])
    assert (trace.sample_s, trace.train_s) == (0.25, 0.5)
