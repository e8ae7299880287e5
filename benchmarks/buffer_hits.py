"""Hit rates of the policies against the optimum, on traces of synthetic graphs.

    python benchmarks/buffer_hits.py [--quick] [--seeds 0 1 2] [--fractions 0.25 0.5] [--batch 250]

A synthetic graph (RMAT, or communities with power-law degrees) is cut into 4 parts. One trainer samples its vertices in
a new order per epoch, 2 layers with fan-outs 10 and 25. Each policy is replayed over that trace. All remote vertices
are candidates, hit rates are over all remote accesses from the first step on, and all policies have f |H| rows.
`oracle` is Belady's rule with the whole trace announced, filled with the rows used first. No policy with as many rows
has more hits, except with `carry`, which also has the previous batch. `best static` holds what most steps read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from lines import emit
from numpy.typing import NDArray

from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.tuning.replay import Replay, replay
from quatrain.graph.tuning.trace import Trace, TraceSetup
from quatrain.seeding import numpy_rng

PARTS, FANOUTS = 4, (10, 25)
Ints = NDArray[np.int64]


class Graph:
    """In-neighbours by vertex; vertices are numbered so that a part's are contiguous."""

    def __init__(self, count: int, source: Ints, target: Ints) -> None:
        both = np.unique(np.concatenate([source, target]) * count + np.concatenate([target, source]))
        head, tail = both // count, both % count
        keep = head != tail
        self.count, self.tails = count, tail[keep]
        self.starts = np.searchsorted(head[keep], np.arange(count + 1))
        self.degrees = np.diff(self.starts)

    def sample(self, vertices: Ints, fanout: int, rng: np.random.Generator) -> Ints:
        """Return up to `fanout` in-neighbours of each vertex, drawn with replacement."""
        vertices = vertices[self.degrees[vertices] > 0]
        picks = rng.random((fanout, len(vertices))) * self.degrees[vertices]
        return np.unique(self.tails[self.starts[vertices] + picks.astype(np.int64)])

    def halo(self, first: int, stop: int) -> HaloTable:
        """Return the halo of a part."""
        tails = np.unique(self.tails[self.starts[first] : self.starts[stop]])
        ids = tails[(tails < first) | (tails >= stop)]
        return HaloTable(ids, self.degrees[ids])


def rmat(scale: int, degree: int, rng: np.random.Generator) -> Graph:
    """Return an RMAT graph with the usual .57 .19 .19 .05, cut at random."""
    edges = degree * 2**scale // 2
    source = target = np.zeros(edges, np.int64)
    for _ in range(scale):
        quadrant = np.searchsorted(np.cumsum([0.57, 0.19, 0.19]), rng.random(edges))
        source, target = 2 * source + quadrant // 2, 2 * target + quadrant % 2
    new = rng.permutation(2**scale)
    return Graph(2**scale, new[source], new[target])


def communities(count: int, degree: int, rng: np.random.Generator) -> Graph:
    """Return 64 communities with 85 % of the edges within one and power-law degrees; a part is a run of them."""
    edges, size = degree * count // 2, count // 64
    weight = rng.permutation((1 + np.arange(size)) ** -0.6)
    within = np.cumsum(weight) / weight.sum()
    source = size * rng.integers(0, 64, edges) + np.searchsorted(within, rng.random(edges))
    home = np.where(rng.random(edges) < 0.85, source // size, rng.integers(0, 64, edges))
    return Graph(64 * size, source, size * home + np.searchsorted(within, rng.random(edges)))


def steps(graph: Graph, own: range, batch: int, epochs: int, rng: np.random.Generator) -> Iterator[tuple[int, Ints]]:
    """Yield epoch and ids of each step: the seeds, their sampled neighbours and the neighbours of these."""
    train = rng.permutation(np.arange(own.start, own.stop))[: len(own) // 2]
    for epoch in range(epochs):
        order = rng.permutation(train)
        for begin in range(0, len(order), batch):
            read = frontier = np.sort(order[begin : begin + batch])
            for fanout in FANOUTS:
                frontier = np.union1d(frontier, graph.sample(frontier, fanout, rng))
                read = frontier
            yield epoch, read


def record(graph: Graph, *, batch: int, epochs: int, rng: np.random.Generator) -> Trace:
    """Return the trace of the second part's trainer."""
    own = range(graph.count // PARTS, 2 * graph.count // PARTS)
    rows, local, epoch = [], [], []
    for number, read in steps(graph, own, batch, epochs, rng):
        inside = (read >= own.start) & (read < own.stop)
        rows.append(read[~inside])
        local.append(int(inside.sum()))
        epoch.append(number)
    setup = TraceSetup(halo=graph.halo(own.start, own.stop), dim=100, vertex_count=graph.count)
    return Trace(
        setup=setup,
        vertices=np.concatenate(rows),
        end=np.cumsum([len(row) for row in rows]),
        local=np.array(local),
        epoch=np.array(epoch),
    )


CASES = {
    "static-degree": CacheConfig(policy="static-degree"),
    "presample": CacheConfig(policy="presample", window=16),
    "paper": CacheConfig(policy="paper"),
    "paper, score reset": CacheConfig(policy="paper", score_transfer="reset"),
    "paper, delta 16": CacheConfig(policy="paper", interval=16),
    "lfu": CacheConfig(policy="lfu"),
    "lfu, delta 1": CacheConfig(policy="lfu", interval=1),
    "belady, window 4": CacheConfig(policy="belady", window=4, carry=False),
    "belady, window 16": CacheConfig(policy="belady", window=16, carry=False),
    "belady, window 16, carry": CacheConfig(policy="belady", window=16, carry=True),
    "best static": CacheConfig(policy="presample", window=10**6),
    "oracle": CacheConfig(policy="belady", window=10**6, carry=False),
}
GRAPHS = {"rmat": rmat, "communities": communities}


def scale_of(name: str, quick: bool) -> int:
    """Return the size of a graph: log2 of the vertices for RMAT, vertices for communities."""
    power = 13 if quick else 16
    return power if name == "rmat" else 2**power


def measure(name: str, seeds: list[int], fractions: list[float], *, quick: bool, batch: int) -> None:
    """Replay every policy over the traces of one kind of graph and print hit rates and rows pulled."""
    traces = []
    for seed in seeds:
        graph = GRAPHS[name](scale_of(name, quick), 20, numpy_rng(seed, "graph", name))
        traces.append(record(graph, batch=batch, epochs=4 if quick else 8, rng=numpy_rng(seed, "sampling", name)))
    for fraction in fractions:
        done: dict[str, list[Replay]] = {}
        for policy, config in CASES.items():
            among = "remote" if config.policy != "static-degree" else "halo"  # the same for it
            done[policy] = [replay(one, replace(config, fraction=fraction, candidates=among)) for one in traces]
        report(f"{name}, f {fraction}, batch {batch}", done)


def report(case: str, done: dict[str, list[Replay]]) -> None:
    """Print each policy's hit rate, the same against the oracle's, and the share of remote rows that it pulls."""
    for policy, replays in done.items():
        hits = [one.remote_hit_rate for one in replays]
        against = [
            one.remote_hit_rate / best.remote_hit_rate for one, best in zip(replays, done["oracle"], strict=True)
        ]
        pulled = [one.remote_rows.sum() / (one.remote_hits + one.remote_misses).sum() for one in replays]
        goal, ok = (">= 0.97", min(against) >= 0.97) if policy.startswith("belady") else ("", None)
        emit("buffer_hits", f"{case}, {policy}", "remote hit rate", hits, unit="", goal="", ok=None)
        emit("buffer_hits", f"{case}, {policy}", "hits against the oracle's", against, unit="times", goal=goal, ok=ok)
        emit("buffer_hits", f"{case}, {policy}", "rows pulled against none", pulled, unit="times", goal="", ok=None)


def main() -> None:
    """Measure both kinds of graph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small graphs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--batch", type=int, default=250, help="seed vertices per step")
    options = parser.parse_args()
    for name in GRAPHS:
        measure(name, options.seeds, options.fractions, quick=options.quick, batch=options.batch)


if __name__ == "__main__":
    main()
