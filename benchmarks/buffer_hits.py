"""How near the policies come to the best that any policy could do, on traces of made graphs.

    python benchmarks/buffer_hits.py [--quick] [--seeds 0 1 2] [--fractions 0.1 0.25 0.5]

A made graph (RMAT, or communities with power-law degrees) is cut into 4 parts; one trainer samples its own vertices,
epoch by epoch in a new order, 2 layers with fan-outs 10 and 25; every policy is replayed over what it read. Hit rates
are those over the candidates, from the first step on. `oracle` is Belady's rule told the whole trace, filled with what
is used first: no policy with as many rows has more hits. `best static` holds what most steps of the trace access.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from lines import emit
from numpy.typing import NDArray

from quatrain.graph.buffer import candidates
from quatrain.graph.halo import HaloTable
from quatrain.graph.replay import Replay, replay
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.trace import Setup, Trace
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
        """Up to `fanout` in-neighbours of each vertex, drawn with replacement."""
        vertices = vertices[self.degrees[vertices] > 0]
        picks = rng.random((fanout, len(vertices))) * self.degrees[vertices]
        return np.unique(self.tails[self.starts[vertices] + picks.astype(np.int64)])

    def halo(self, first: int, stop: int) -> HaloTable:
        """Vertices outside a part with an edge into it."""
        tails = np.unique(self.tails[self.starts[first] : self.starts[stop]])
        ids = tails[(tails < first) | (tails >= stop)]
        return HaloTable(ids, self.degrees[ids])


def rmat(scale: int, degree: int, rng: np.random.Generator) -> Graph:
    """RMAT with the usual .57 .19 .19 .05, cut at random."""
    edges = degree * 2**scale // 2
    source = target = np.zeros(edges, np.int64)
    for _ in range(scale):
        quadrant = np.searchsorted(np.cumsum([0.57, 0.19, 0.19]), rng.random(edges))
        source, target = 2 * source + quadrant // 2, 2 * target + quadrant % 2
    new = rng.permutation(2**scale)
    return Graph(2**scale, new[source], new[target])


def communities(count: int, degree: int, rng: np.random.Generator) -> Graph:
    """64 communities in a row, 85 % of the edges within one, power-law degrees; parts are runs of communities."""
    edges, size = degree * count // 2, count // 64
    weight = rng.permutation((1 + np.arange(size)) ** -0.6)
    within = np.cumsum(weight) / weight.sum()
    source = size * rng.integers(0, 64, edges) + np.searchsorted(within, rng.random(edges))
    home = np.where(rng.random(edges) < 0.85, source // size, rng.integers(0, 64, edges))
    return Graph(64 * size, source, size * home + np.searchsorted(within, rng.random(edges)))


def steps(graph: Graph, own: range, batch: int, epochs: int, rng: np.random.Generator) -> Iterator[tuple[int, Ints]]:
    """What each step reads: the seeds, their sampled neighbours and those of these."""
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
    """The trace of the second part's trainer."""
    own = range(graph.count // PARTS, 2 * graph.count // PARTS)
    rows, local, epoch = [], [], []
    for number, read in steps(graph, own, batch, epochs, rng):
        inside = (read >= own.start) & (read < own.stop)
        rows.append(read[~inside])
        local.append(int(inside.sum()))
        epoch.append(number)
    setup = Setup(halo=graph.halo(own.start, own.stop), dim=100, vertex_count=graph.count)
    return Trace(
        setup=setup,
        vertices=np.concatenate(rows),
        end=np.cumsum([len(row) for row in rows]),
        local=np.array(local),
        epoch=np.array(epoch),
    )


def main() -> None:
    import sys, time

    rng = numpy_rng(0, "x")
    for name, graph in (("rmat", rmat(16, 20, rng)), ("communities", communities(65536, 20, rng))):
        for batch in (250, 1000):
            trace = record(graph, batch=batch, epochs=8, rng=rng)
            n = np.diff(trace.end, prepend=0)
            H = trace.setup.halo.size
            u = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(trace.steps(), list(trace.steps())[1:])]
            print(
                name,
                batch,
                "steps",
                len(trace),
                "halo",
                H,
                "remote/step",
                n.mean(),
                "local",
                trace.local.mean(),
                "overlap prev",
                np.mean(u),
                flush=True,
            )
            for cand in ("halo", "remote"):
                for f in (0.1, 0.25, 0.5):
                    out = []
                    for cfg in (
                        dict(policy="static-degree"),
                        dict(policy="presample", window=16),
                        dict(policy="paper"),
                        dict(policy="paper", score_transfer="reset"),
                        dict(policy="counts", interval=1),
                        dict(policy="counts", interval=16),
                        dict(policy="schedule", window=8),
                        dict(policy="schedule", window=32),
                        dict(policy="schedule", window=10**6),
                        dict(policy="presample", window=10**6),
                    ):
                        c = BufferConfig(fraction=f, candidates=cand, **cfg)
                        t = time.perf_counter()
                        r = replay(trace, c)
                        out.append(
                            f"{cfg['policy'][:6]} {r.remote_hit_rate:.3f}({1000 * (time.perf_counter() - t) / len(trace):.1f}ms)"
                        )
                    print("  ", cand, f, "bound b/A", round(min(1, f * H / n.mean()), 3), *out, flush=True)


if __name__ == "__main__":
    main()
