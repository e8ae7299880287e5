from types import SimpleNamespace

import pytest
import torch

from quatrain.graph.feature_path import TracingReader
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.loader import Batch
from quatrain.graph.prefetch import Preparation, pipelined
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter, read_trace

FEATURES = torch.arange(40.0).view(20, 2)
LABELS = torch.arange(20) % 3


class Posted:
    """A feature path that takes down when reads begin and end, each of whose parts takes a second."""

    def __init__(self):
        self.seen = []

    def begin(self, vertices, counters):
        self.seen.append(f"begin {vertices.tolist()}")
        counters.lookup_s += 1
        counters.policy_s += 1

        def end():
            self.seen.append(f"end {vertices.tolist()}")
            counters.copy_s += 1
            return FEATURES[vertices]

        return end


class Labels:
    def read(self, vertices):
        return LABELS[vertices]


def batches(count):
    for number in range(count):
        yield Batch(torch.tensor([number, number + 1]), torch.tensor([number]), [], 0.5)


def prepared(count, *, overlaps):
    features = Posted()
    preparation = Preparation(SimpleNamespace(seconds=0.0), features, Labels(), overlaps=overlaps)
    return list(preparation.steps(batches(count))), features.seen


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_batch_becomes_a_step_with_its_own_rows_and_labels(count, overlaps):
    steps, _ = prepared(count, overlaps=overlaps)

    assert len(steps) == count
    for number, step in enumerate(steps):
        assert torch.equal(step.features, FEATURES[number : number + 2])
        assert step.labels.tolist() == [number % 3]
        assert step.counters.own_s == 3
    assert sum(step.own_s for step in steps) == 3 * count


def test_a_batch_begins_before_the_last_has_ended_only_where_that_is_allowed():
    assert prepared(2, overlaps=False)[1] == ["begin [0, 1]", "end [0, 1]", "begin [1, 2]", "end [1, 2]"]
    assert prepared(2, overlaps=True)[1] == ["begin [0, 1]", "begin [1, 2]", "end [0, 1]", "end [1, 2]"]


def test_work_is_counted_where_it_was_done():
    steps, _ = prepared(3, overlaps=True)

    assert [step.own_s for step in steps] == [2 + 2 + 1, 2 + 1, 1]


def test_one_behind_leaves_nothing_out():
    assert [list(pipelined(range(count))) for count in range(4)] == [[], [0], [0, 1], [0, 1, 2]]


def test_a_trace_tells_epochs_remote_reads_and_the_times_that_were_told(tmp_path):
    setup = TraceSetup(halo=HaloTable([1, 12], [1, 1]), dim=2, vertex_count=20)
    traced = TracingReader(Posted(), TraceWriter(tmp_path / "t.h5", setup), range(5, 10), steps=2)
    for number in range(3):
        traced.begin(torch.tensor([1, 5, 9, 12 + number]), SimpleNamespace(lookup_s=0, policy_s=0))
        traced.took.append((0.25, 0.5))
    traced.close()

    trace = read_trace(tmp_path / "t.h5")
    assert [step.tolist() for step in trace.steps()] == [[1, 12], [1, 13], [1, 14]]
    assert (trace.local.tolist(), trace.epoch.tolist()) == ([2, 2, 2], [0, 0, 1])
    assert (trace.sample_s, trace.train_s) == (0.25, 0.5)
