from __future__ import annotations

import threading

import pytest

from quatrain.graph.prefetch import LookAhead


def failing(after):
    yield from range(after)
    raise RuntimeError("the sampler died")


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


def test_one_thread_alone_iterates_and_prepares():
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


def test_an_error_of_the_loader_arrives_after_the_batches_before_it():
    got = []
    with LookAhead(failing(3), depth=2) as ahead, pytest.raises(RuntimeError, match="sampler"):
        got.extend(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_of_the_preparation_arrives():
    with LookAhead(1 / batch for batch in (1, 0)) as ahead:
        assert next(ahead) == 1
        with pytest.raises(ZeroDivisionError):
            next(ahead)


def test_a_batch_may_be_an_exception_or_nothing():
    error = ValueError("only data")
    with LookAhead([None, error]) as ahead:
        assert list(ahead) == [None, error]


def test_leaving_early_ends_the_thread():
    with LookAhead(iter(int, 1), depth=3) as ahead:
        next(ahead)
        thread = ahead._thread
    assert not thread.is_alive()
    assert list(ahead) == []


def test_leaving_is_possible_when_nothing_was_taken():
    LookAhead(range(10)).close()


def test_a_loader_that_hangs_is_told_and_does_not_keep_the_process():
    free = threading.Event()
    ahead = LookAhead(free.wait() for _ in range(1))
    try:
        with pytest.raises(TimeoutError, match="not ended"):
            ahead.close(timeout_s=0.01)
        assert ahead._thread.daemon
    finally:
        free.set()
        ahead._thread.join()


def test_a_depth_of_zero_is_no_look_ahead():
    with pytest.raises(ValueError, match="depth is 0"):
        LookAhead([], depth=0)
