"""The parts together, as a trainer puts them together: sampling, foresight, buffer, recording, look-ahead, replay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.belady import foresee
from quatrain.graph.features.cache import FeatureCache, LocalPart
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache
from quatrain.graph.features.policies import POLICIES
from quatrain.graph.features.source import IndexedSource, MemorySource, ThrottledSource
from quatrain.graph.prefetch import LookAhead
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import RecordedFeatures, TraceSetup, TraceWriter, read_trace
from quatrain.graph.tuning.tune import TuneConfig, table, tune

COUNT, FIRST, STOP, DIM, EPOCHS, STEPS = 3000, 1000, 2000, 5, 3, 8
FEATURES = torch.randn(COUNT, DIM, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Batch:
    number: int
    input_ids: torch.Tensor


def sample(seed=0):
    """Batches as a sampler yields them: distinct ids in any order, few of them often."""
    rng = np.random.default_rng(seed)
    for number in range(EPOCHS * STEPS):
        ids = rng.permutation(np.unique((COUNT * rng.random(600) ** 2).astype(np.int64)))
        yield Batch(number, torch.from_numpy(ids))


def halo():
    seen = np.unique(np.concatenate([batch.input_ids.numpy() for batch in sample()]))
    ids = seen[(seen < FIRST) | (seen >= STOP)][::2]  # the other half is out of the halo
    return HaloTable(ids, COUNT - ids)


def own():
    return LocalPart(first=FIRST, rows=FEATURES[FIRST:STOP])


def configs():
    for policy in POLICIES:
        yield CacheConfig(policy=policy, interval=2, window=4, carry=False)
        if policy != "static-degree":
            yield CacheConfig(policy=policy, interval=2, window=4, candidates="remote", carry=False)
    yield CacheConfig(policy="schedule", window=4, candidates="remote", carry=True)


def prepare(features, batch):
    return batch, features.read(batch.input_ids)


@pytest.mark.parametrize("config", list(configs()), ids=lambda one: f"{one.policy}-{one.among}-{one.carries}")
def test_what_arrives_at_training_is_what_the_source_holds_and_what_the_replay_foretold(config, tmp_path):
    batches, accesses = foresee(sample(), lambda batch: batch.input_ids)
    accesses = accesses if config.policy == "schedule" else (batch.input_ids for batch in sample())
    source = ThrottledSource(IndexedSource(FEATURES), mbit_s=1e9, sleep=lambda _: None)
    features = MeasuredCache(
        FeatureCache(source, halo(), config, DIM, local=own(), accesses=accesses, vertex_count=COUNT)
    )
    with TraceWriter(tmp_path / "trace.h5", TraceSetup(halo=halo(), dim=DIM, vertex_count=COUNT)) as writer:
        recorded = RecordedFeatures(features, writer, range(FIRST, STOP))
        with LookAhead(map(partial(prepare, recorded), batches), depth=2) as ahead:
            arrived = [(batch.number, torch.equal(rows, FEATURES[batch.input_ids])) for batch, rows in ahead]
    foretold, counters = replay(read_trace(tmp_path / "trace.h5"), config), features.take()

    assert arrived == [(number, True) for number in range(EPOCHS * STEPS)]
    assert foretold.halo_hits.sum() == counters.halo_hits
    assert foretold.remote_hits.sum() == counters.remote_hits
    assert foretold.remote_rows.sum() == counters.remote_rows


def test_carried_rows_stay_those_of_the_source_while_training_holds_several_batches():
    batches, accesses = foresee(sample(), lambda batch: batch.input_ids)
    config = CacheConfig(policy="schedule", window=4, carry=True)
    features = FeatureCache(
        MemorySource(FEATURES), halo(), config, DIM, local=own(), accesses=accesses, vertex_count=COUNT
    )
    with LookAhead(map(partial(prepare, features), batches), depth=3) as ahead:
        held = list(ahead)

    assert all(torch.equal(rows, FEATURES[batch.input_ids]) for batch, rows in held)


def test_the_tuner_ranks_a_recorded_run(tmp_path):
    with TraceWriter(tmp_path / "trace.h5", TraceSetup(halo=halo(), dim=DIM, vertex_count=COUNT)) as writer:
        recorded = RecordedFeatures(MemorySource(FEATURES), writer, range(FIRST, STOP))
        for batch in sample():
            recorded.read(batch.input_ids)
            if batch.number % STEPS == STEPS - 1:
                writer.next_epoch()
        writer.times(sample_s=0.001, train_s=0.001)
    ranked = tune(tmp_path / "trace.h5", TuneConfig(mbit_s=0.1, fractions=(0.25,)), clock=lambda: 0.0)

    assert ranked[0].buffer.policy == "schedule"
    assert ranked[0].buffer.carries
    assert ranked[0].remote_bytes < next(one for one in ranked if one.buffer.policy == "none").remote_bytes
    assert table(ranked).splitlines()[1].split()[0] == "schedule"


def test_another_seed_than_the_foretold_one_arrives_as_an_error():
    _, accesses = foresee(sample(seed=1), lambda batch: batch.input_ids)
    features = FeatureCache(
        MemorySource(FEATURES), halo(), CacheConfig(), DIM, local=own(), accesses=accesses, vertex_count=COUNT
    )
    with (
        LookAhead(map(partial(prepare, features), sample())) as ahead,
        pytest.raises(ValueError, match="other vertices than were foretold"),
    ):
        next(ahead)
