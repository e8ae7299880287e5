from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from buffer_world import COUNT, LOCAL, REMOTE, configs, halos, steps
from hypothesis import given, settings

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache, LocalPart
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache
from quatrain.graph.features.source import MemorySource
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import Trace, TraceSetup

FEATURES = torch.zeros(COUNT, 2)


def traced(halo, accesses):
    """The trace of some steps."""
    remote = [step[(step < LOCAL.start) | (step >= LOCAL.stop)] for step in accesses]
    return Trace(
        setup=TraceSetup(halo=halo, dim=2, vertex_count=COUNT),
        vertices=np.concatenate(remote),
        end=np.cumsum([len(step) for step in remote]),
        local=np.array([len(step) for step in accesses]) - [len(step) for step in remote],
        epoch=np.zeros(len(accesses), np.int64),
    )


@settings(max_examples=100)
@given(halos(), configs(), steps(range(COUNT), most=25))
def test_a_replay_counts_the_same_hits_and_rows_as_the_cache(halo, config, accesses):
    local = LocalPart(first=LOCAL.start, rows=FEATURES[LOCAL.start : LOCAL.stop])
    features = MeasuredCache(
        FeatureCache(MemorySource(FEATURES), halo, config, 2, local=local, accesses=iter(accesses), vertex_count=COUNT)
    )
    real = []
    for step in accesses:
        features.read(torch.from_numpy(step))
        real.append(features.take())
    predicted = replay(traced(halo, accesses), config)

    for name in ("halo_hits", "halo_misses", "remote_hits", "remote_misses", "remote_rows"):
        assert getattr(predicted, name).tolist() == [getattr(metrics, name) for metrics in real], name
    assert predicted.buffer_rows == features.capacity


@given(halos(), configs(["none", "static-degree", "paper", "lfu", "belady"]), steps(REMOTE, most=25))
def test_no_policy_has_more_hits_than_belady_with_the_whole_future_announced(halo, config, accesses):
    unique = [np.unique(step) for step in accesses]
    best = CacheConfig(
        policy="belady", fraction=config.fraction, window=99, candidates=config.effective_candidates, carry=False
    )
    config = replace(config, carry=False)
    trace = traced(halo, unique)
    ours, oracle = replay(trace, config), replay(trace, best)

    assert ours.remote_hits.sum() <= oracle.remote_hits.sum()
    assert oracle.remote_rows.sum() == oracle.remote_misses.sum()


def test_a_replay_has_rates_and_times():
    ticks = iter(range(100))
    halo = HaloTable([1, 50], [2, 1])
    done = replay(
        traced(halo, [np.array([1, 50, 2]), np.array([1])]),
        CacheConfig(policy="static-degree", fraction=0.5),
        clock=lambda: next(ticks),
    )

    assert (done.halo_hit_rate, done.remote_hit_rate) == (2 / 3, 0.5)
    assert (done.lookup_s, done.policy_s) == (2, 2)
