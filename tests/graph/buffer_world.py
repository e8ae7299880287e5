"""Small halos, configurations and access sequences, drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policies import BUILT_IN

COUNT, LOCAL = 60, range(20, 40)
REMOTE = [vertex for vertex in range(COUNT) if vertex not in LOCAL]


@st.composite
def configs(draw, policies=tuple(spec.name for spec in BUILT_IN)):
    """A configuration of one of the policies."""
    policy = draw(st.sampled_from(policies))
    return CacheConfig(
        policy=policy,
        carry=draw(st.sampled_from([None, False, *([True] if policy == "belady" else [])])),
        fraction=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
        decay=draw(st.sampled_from([0.5, 0.75, 0.995])),
        interval=draw(st.integers(1, 5)),
        window=draw(st.integers(1, 6)),
        candidates=draw(st.sampled_from([None, "halo", *(["remote"] if policy != "static-degree" else [])])),
        score_transfer=draw(st.sampled_from(["paper", "reset"])),
        alpha_decimals=draw(st.sampled_from([None, 1, 3])),
        victims=draw(st.sampled_from(["lowest-score", "id-order"])),
        count_on_eviction=draw(st.booleans()),
    )


@st.composite
def halos(draw, vertices=tuple(REMOTE)):
    """A halo among `vertices`."""
    ids = sorted(draw(st.sets(st.sampled_from(vertices))))
    degrees = draw(st.lists(st.integers(0, 9), min_size=len(ids), max_size=len(ids)))
    return HaloTable(ids, degrees)


def steps(vertices, *, least=1, most=12):
    """Ids that some steps read, with repeats and empty steps."""
    one = st.lists(st.sampled_from(list(vertices)), max_size=30).map(lambda ids: np.array(ids, np.int64))
    return st.lists(one, min_size=least, max_size=most)
