from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.buffer import BufferedFeatures, LocalPart
from quatrain.graph.counted import CountedFeatures
from quatrain.graph.halo import HaloTable
from quatrain.graph.policies import POLICIES
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.source import MemorySource

COUNT, LOCAL = 60, range(20, 40)
FEATURES = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))


@st.composite
def runs(draw):
    """A halo, a configuration and the ids that some steps read, repeats among them."""
    remote = [vertex for vertex in range(COUNT) if vertex not in LOCAL]
    ids = sorted(draw(st.sets(st.sampled_from(remote))))
    degrees = draw(st.lists(st.integers(0, 9), min_size=len(ids), max_size=len(ids)))
    steps = draw(st.lists(st.lists(st.integers(0, COUNT - 1), max_size=30), min_size=1, max_size=12))
    config = BufferConfig(
        policy=draw(st.sampled_from(sorted(POLICIES))),
        fraction=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
        decay=draw(st.sampled_from([0.5, 0.75, 0.995])),
        interval=draw(st.integers(1, 5)),
        window=draw(st.integers(1, 6)),
        candidates=draw(st.sampled_from(["halo", "remote"])),
        score_transfer=draw(st.sampled_from(["paper", "reset"])),
        alpha_decimals=draw(st.sampled_from([None, 3])),
        victims=draw(st.sampled_from(["lowest-score", "id-order"])),
        count_on_eviction=draw(st.booleans()),
    )
    return HaloTable(ids, degrees), config, [torch.tensor(step, dtype=torch.int64) for step in steps]


def buffer(halo, config, steps, source=None):
    local = LocalPart(first=LOCAL.start, stop=LOCAL.stop, source=MemorySource(FEATURES[20:40], first=20))
    return BufferedFeatures(
        source or MemorySource(FEATURES), halo, config, 3, local=local, accesses=iter(steps), vertex_count=COUNT
    )


@given(runs())
def test_every_batch_equals_a_direct_pull_under_every_policy(run):
    halo, config, steps = run
    features = CountedFeatures(buffer(halo, config, steps))

    for step in steps:
        assert torch.equal(features.read(step), FEATURES[step])


@given(runs())
def test_hits_and_misses_add_up_to_what_was_asked_for(run):
    halo, config, steps = run
    features = CountedFeatures(buffer(halo, config, steps))
    for step in steps:
        features.read(step)
    asked, counters = np.concatenate(steps), features.take()
    remote = asked[(asked < LOCAL.start) | (asked >= LOCAL.stop)]

    assert counters.local_rows == len(asked) - len(remote)
    assert counters.remote_hits + counters.remote_misses == len(remote)
    assert counters.halo_hits + counters.halo_misses == np.isin(remote, halo.ids).sum()
    assert counters.remote_rows >= counters.remote_misses
    assert counters.remote_bytes == counters.remote_rows * 3 * 4
    assert features.take().remote_rows == 0
