from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import torch
from buffer_world import COUNT, configs, halos, steps
from hypothesis import given

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.metrics import MeasuredCache
from quatrain.graph.features.shared_slots import SharedShape, SharedStore
from quatrain.graph.features.source import MemorySource

FEATURES = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))
SHAPE = SharedShape(size=10, rows=4, dim=3, readers=2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "buffer"


def stores(path, shape):
    """The stores of all readers, reader 0 first; each has its own file, as each of several processes would."""
    return [SharedStore(path, shape, reader=reader, timeout_s=20) for reader in range(shape.readers)]


def buffers(halo, config, accesses, made):
    source = MemorySource(FEATURES)
    return [
        MeasuredCache(FeatureCache(source, halo, config, 3, vertex_count=COUNT, accesses=iter(accesses), store=store))
        for store in made
    ]


@given(halos(), configs(["none", "static-degree", "presample", "paper", "lfu"]), steps(range(COUNT)))
def test_each_batch_of_each_trainer_equals_a_direct_read(halo, config, accesses):
    size = halo.size if config.effective_candidates == "halo" else COUNT
    shape = SharedShape(size=size, rows=config.capacity(halo.size), dim=3, readers=3, log=20)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = [stack.enter_context(closing(store)) for store in stores(Path(folder) / "buffer", shape)]
        readers = buffers(halo, config, accesses, made)
        for step, reader in zip(accesses, itertools.cycle([1, 0, 2])):
            assert torch.equal(readers[reader].read(torch.from_numpy(step)), FEATURES[step])


def test_the_shared_policy_counts_the_reads_of_all_trainers(path):
    halo, config = (
        HaloTable(range(10), [9, 8, 7, 6, 1, 1, 1, 1, 1, 1]),
        CacheConfig(policy="lfu", fraction=0.4, interval=1),
    )
    made = stores(path, SHAPE)
    leader, follower = buffers(halo, config, [], made)
    for _ in range(3):
        follower.read(torch.tensor([9]))  # 9 is not cached; only the follower reads it
    leader.read(torch.tensor([0]))
    leader.take()
    follower.take()
    follower.read(torch.tensor([9]))
    leader.read(torch.tensor([9]))

    assert follower.take().remote_hits == leader.take().remote_hits == 1
    for store in made:
        store.close()


def test_the_file_is_unlinked_when_the_last_reader_has_opened_it(path):
    leader = SharedStore(path, SHAPE, reader=0)
    assert path.stat().st_size == SHAPE.offsets()[-1]
    follower = SharedStore(path, SHAPE, reader=1)
    assert not path.exists()
    leader.rows[:] = 7

    assert follower.rows.unique().tolist() == [7]
    leader.close()
    follower.close()


def test_followers_wait_until_the_rows_are_filled(path):
    leader, follower = stores(path, SHAPE)
    waiter = threading.Thread(target=follower.ready)
    waiter.start()
    assert waiter.is_alive()
    leader.ready()
    waiter.join(60)

    assert not waiter.is_alive()
    leader.close()
    follower.close()


def test_a_missing_leader_is_a_timeout(path):
    with pytest.raises(TimeoutError, match="reader 0 did not create it within 0 s"):
        SharedStore(path, SHAPE, reader=1, timeout_s=0)


def test_a_leader_that_never_fills_leaves_no_file(path):
    shape = SharedShape(size=10, rows=4, dim=3, readers=3)
    leader = SharedStore(path, shape, reader=0)
    follower = SharedStore(path, shape, reader=1, timeout_s=0)
    with pytest.raises(TimeoutError, match="did not fill it"):
        follower.ready()

    assert not path.exists()
    leader.close()
    follower.close()


def test_an_existing_file_is_refused(path):
    path.write_text("someone else's")

    with pytest.raises(UsageError, match="exists: another run uses it"):
        SharedStore(path, SHAPE, reader=0)
    assert path.read_text() == "someone else's"


def test_readers_with_other_settings_are_refused(path):
    leader = SharedStore(path, SHAPE, reader=0)

    with pytest.raises(UsageError, match=r"\(10, 4, 3, 2\), this reader wants \(10, 4, 5, 2\)"):
        SharedStore(path, SharedShape(size=10, rows=4, dim=5, readers=2), reader=1)
    leader.close()


def test_too_little_memory_is_a_usage_error(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match="has no space for a shared cache"):
        SharedStore(path, SHAPE, reader=0)
    assert not path.exists()


def test_a_reader_beyond_the_agreed_number_is_refused(path):
    with pytest.raises(ValueError, match="reader is 2; it must lie between 0 and 1"):
        SharedStore(path, SHAPE, reader=2)
    with pytest.raises(ValueError, match="must be at least 1"):
        SharedShape(size=1, rows=1, dim=1, readers=0)


def test_belady_is_refused_in_a_shared_cache(path):
    leader = SharedStore(path, SharedShape(size=10, rows=2, dim=3, readers=1), reader=0)

    with pytest.raises(UsageError, match="knows the steps of one trainer only"):
        buffers(HaloTable(range(10), [1] * 10), CacheConfig(policy="belady"), [], [leader])
    leader.close()


@pytest.mark.parametrize("counts", [[3], [2, 3], [4, 4]])
def test_a_log_holds_the_accesses_that_fit_and_is_emptied_by_collect(path, counts):
    leader, follower = stores(path, SharedShape(size=10, rows=1, dim=1, readers=2, log=4))
    for _ in range(3):
        for count in counts:
            follower.report(np.arange(count))
        expected = np.concatenate([np.arange(count) for count in counts])[:4]
        assert leader.collect().tolist() == expected.tolist()
    assert leader.collect().tolist() == []
    leader.close()
    follower.close()


KILLED = """
import os, signal, sys
from quatrain.graph.features.shared_slots import SharedShape, SharedStore
store = SharedStore(sys.argv[1], SharedShape(size=10, rows=4, dim=3, readers=2), reader=1)
store.ready()
with store.writing():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_holds_the_lock_leaves_neither_lock_nor_file(path):
    leader = SharedStore(path, SHAPE, reader=0)
    leader.ready()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)

    assert done.returncode == -signal.SIGKILL
    with leader.writing():
        assert not path.exists()
    leader.close()
