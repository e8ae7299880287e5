from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from quatrain.graph.loader import Batch
from quatrain.graph.prefetch import LookAhead, Preparation, pipelined


def failing(after):
    yield from range(after)
    raise RuntimeError("the sampler failed")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_arrive_prepared_and_in_order(depth):
    with LookAhead((batch * 10 for batch in range(20)), depth=depth) as ahead:
        assert list(ahead) == [batch * 10 for batch in range(20)]
        assert list(ahead) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_batches_are_prepared_ahead(depth):
    taken, too_far = 0, []

    def prepare(batch):
        if batch > taken + depth:  # the consumer counts a batch after it was handed over
            too_far.append((batch, taken))
        return batch

    with LookAhead(map(prepare, range(200)), depth=depth) as ahead:
        for _ in ahead:
            taken += 1
    assert (taken, too_far) == (200, [])


def test_the_next_batch_is_prepared_while_the_consumer_holds_one():
    second = threading.Event()

    def prepare(batch):
        if batch == 1:
            second.set()
        return batch

    with LookAhead(map(prepare, range(3))) as ahead:
        assert next(ahead) == 0
        assert second.wait(60)


def test_one_thread_samples_and_prepares():
    threads = set()

    def batches():
        for batch in range(5):
            threads.add(threading.get_ident())
            yield batch

    def prepare(batch):
        threads.add(threading.get_ident())

    with LookAhead(map(prepare, batches()), depth=2) as ahead:
        list(ahead)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_of_the_sampler_is_raised_after_the_batches_before_it():
    got = []
    with LookAhead(failing(3), depth=2) as ahead, pytest.raises(RuntimeError, match="sampler"):
        got.extend(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_of_the_preparation_is_raised():
    with LookAhead(1 / batch for batch in (1, 0)) as ahead:
        assert next(ahead) == 1
        with pytest.raises(ZeroDivisionError):
            next(ahead)


def test_a_batch_may_be_an_exception_or_none():
    error = ValueError("only data")
    with LookAhead([None, error]) as ahead:
        assert list(ahead) == [None, error]


def test_closing_early_ends_the_thread():
    with LookAhead(iter(int, 1), depth=3) as ahead:
        next(ahead)
        thread = ahead._thread
    assert not thread.is_alive()
    assert list(ahead) == []


def test_closing_is_possible_before_the_first_batch():
    LookAhead(range(10)).close()


def test_a_sampler_that_hangs_is_a_timeout_and_does_not_keep_the_process():
    free = threading.Event()
    ahead = LookAhead(free.wait() for _ in range(1))
    try:
        with pytest.raises(TimeoutError, match="did not end"):
            ahead.close(timeout_s=0.01)
        assert ahead._thread.daemon
    finally:
        free.set()
        ahead._thread.join()


def test_a_depth_of_0_is_refused():
    with pytest.raises(ValueError, match="depth is 0"):
        LookAhead([], depth=0)


FEATURES = torch.arange(40.0).view(20, 2)
LABELS = torch.arange(20) % 3


class LoggingReader:
    """A feature reader that logs when reads start and finish; each part of a read takes a second."""

    def __init__(self):
        self.log = []

    def start_read(self, ids_n, metrics):
        self.log.append(f"start {ids_n.tolist()}")
        metrics.lookup_s += 1
        metrics.policy_s += 1

        def finish():
            self.log.append(f"finish {ids_n.tolist()}")
            metrics.copy_s += 1
            return FEATURES[ids_n]

        return finish


class Labels:
    def read(self, ids_n):
        return LABELS[ids_n]


def batches(count):
    for number in range(count):
        yield Batch(torch.tensor([number, number + 1]), torch.tensor([number]), [], 0.5)


def prepared(count, *, overlaps):
    reader = LoggingReader()
    preparation = Preparation(SimpleNamespace(seconds=0.0), reader, Labels(), overlaps=overlaps)
    return list(preparation.prepare(batches(count))), reader.log


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_batch_gets_its_own_features_and_labels(count, overlaps):
    ready, _ = prepared(count, overlaps=overlaps)

    assert len(ready) == count
    for number, batch in enumerate(ready):
        assert torch.equal(batch.features, FEATURES[number : number + 2])
        assert batch.labels.tolist() == [number % 3]
        assert batch.metrics.cache_s == 3
    assert sum(batch.cache_s for batch in ready) == 3 * count


def test_a_batch_starts_before_the_previous_one_has_finished_only_with_overlap():
    assert prepared(2, overlaps=False)[1] == ["start [0, 1]", "finish [0, 1]", "start [1, 2]", "finish [1, 2]"]
    assert prepared(2, overlaps=True)[1] == ["start [0, 1]", "start [1, 2]", "finish [0, 1]", "finish [1, 2]"]


def test_cache_time_is_counted_in_the_batch_during_which_it_was_spent():
    ready, _ = prepared(3, overlaps=True)

    assert [batch.cache_s for batch in ready] == [2 + 2 + 1, 2 + 1, 1]


def test_pipelined_yields_all_items():
    assert [list(pipelined(range(count))) for count in range(4)] == [[], [0], [0, 1], [0, 1, 2]]
