from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from quatrain.hpc.pool import with_given_gpus

POOL = [sys.executable, "-m", "quatrain.hpc.pool"]
MANAGER = (
    "import os, signal, subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'], start_new_session=True);"
    "print(os.getpid(), child.pid, flush=True); time.sleep(120)"
)


def gone(pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def started():
    pool = subprocess.Popen([*POOL, sys.executable, "-c", MANAGER], stdout=subprocess.PIPE, text=True)
    assert pool.stdout is not None
    manager, worker = map(int, pool.stdout.readline().split())
    return pool, manager, worker


def test_workers_of_a_killed_manager_end_with_it():
    pool, manager, worker = started()
    with pool:
        os.kill(manager, signal.SIGKILL)

        assert pool.wait(60) == 128 + signal.SIGKILL
        assert gone(worker)


def test_a_pool_that_is_told_to_end_hands_it_on():
    pool, manager, worker = started()
    with pool:
        pool.send_signal(signal.SIGTERM)

        assert pool.wait(60) == 128 + signal.SIGTERM
        assert gone(manager)
        assert gone(worker)


def test_the_exit_code_of_a_pool_is_handed_on():
    assert subprocess.run([*POOL, sys.executable, "-c", "raise SystemExit(3)"], check=False).returncode == 3


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [("2,3", ["2", "3"]), ("", ["0", "1"]), ("3", ["3"]), ("0,1,2,3", ["0", "1"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"])],
)
def test_workers_are_pinned_to_the_gpus_that_the_job_was_given(visible, wanted):
    words = ["process_worker_pool.py", "-p", "0", "--available-accelerators", "0", "1"]

    assert with_given_gpus(words, {"CUDA_VISIBLE_DEVICES": visible}) == [*words[:-2], *wanted]


def test_workers_without_gpus_stay_without():
    words = ["process_worker_pool.py", "--available-accelerators"]

    assert with_given_gpus(words, {"CUDA_VISIBLE_DEVICES": "0"}) == words
    assert with_given_gpus(["pool"], {"CUDA_VISIBLE_DEVICES": "0"}) == ["pool"]
