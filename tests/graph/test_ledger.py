import itertools

import pytest

from quatrain.graph import ledger
from quatrain.graph.counted import Counters
from quatrain.graph.ledger import Ledger, Step, Sums, row


@pytest.fixture
def ticks(monkeypatch):
    """A clock whose times are told beforehand."""
    times = iter(())

    def tell(*told):
        nonlocal times
        times = itertools.chain(told)

    monkeypatch.setattr(ledger.time, "perf_counter", lambda: next(times))
    return tell


def step(**counted):
    return Step([], None, None, 0.5, Counters(**counted))


@pytest.mark.parametrize(("waited_s", "added_s"), [(10.0, 6.0), (4.0, 4.0), (0.0, 0.0)])
def test_look_up_and_copy_add_to_an_epoch_no_more_than_training_waited_for(waited_s, added_s, ticks):
    ticks(0.0, 1.0, 1.0 + waited_s)
    book = Ledger()
    with book.timed("wait_s"):
        pass
    book.count(step(lookup_s=1.0, policy_s=2.0, copy_s=3.0, pull_s=7.0, beside_s=9.0))

    assert (book.sums.wait_s, book.sums.overhead_s) == (waited_s, added_s)
    assert (book.sums.lookup_s, book.sums.copy_s, book.sums.pull_s, book.sums.beside_s) == (3.0, 3.0, 7.0, 9.0)


def test_an_epoch_is_the_longest_of_all_trainers_with_the_means_of_its_parts():
    told = row([Sums(seconds=2, wait_s=1, remote_hits=3, steps=1), Sums(seconds=4, remote_misses=1, loss=6, steps=1)])

    assert (told["seconds"], told["wait_s"], told["remote_hit_rate"], told["loss"]) == (4, 0.5, 0.75, 3.0)
    assert told["halo_hit_rate"] is None
