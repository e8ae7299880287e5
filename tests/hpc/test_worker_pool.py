from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from quatrain.hpc import worker_pool as pool
from quatrain.hpc.allocation import BLOCK_END
from quatrain.hpc.worker_pool import with_given_gpus

POOL = [sys.executable, "-m", "quatrain.hpc.worker_pool"]
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


def test_a_pool_that_is_asked_to_end_hands_it_on():
    pool, manager, worker = started()
    with pool:
        pool.send_signal(signal.SIGTERM)

        assert pool.wait(60) == 128 + signal.SIGTERM
        assert gone(manager)
        assert gone(worker)


CLEANER = (
    "import signal, sys, time;"
    "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').close(), sys.exit()));"
    "print('ready', flush=True); time.sleep(120)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_manager_leaves_may_clean_up_before_it_ends(tmp_path, number):
    mark = tmp_path / "clean"
    child = f"[sys.executable, '-c', {CLEANER!r}, {str(mark)!r}]"
    start = f"import os, subprocess, sys; print(os.getpid(), flush=True); subprocess.run({child})"
    with subprocess.Popen([*POOL, sys.executable, "-c", start], stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        manager = int(pool.stdout.readline())
        assert pool.stdout.readline() == "ready\n"
        os.kill(manager, number)

        pool.wait(60)

    assert mark.exists()


def test_a_pool_that_is_asked_to_end_before_its_command_has_started_ends_it(monkeypatch):
    class Early(subprocess.Popen):
        def __init__(self, *words):
            os.kill(os.getpid(), signal.SIGTERM)
            super().__init__(*words)

    before = {number: signal.getsignal(number) for number in pool.FORWARDED}
    monkeypatch.setattr(pool.subprocess, "Popen", Early)
    monkeypatch.setattr(pool, "adopt_orphans", lambda: None)
    monkeypatch.setattr(pool, "clear", lambda: None)
    try:
        assert pool.run([sys.executable, "-c", "import time; time.sleep(120)"]) == 128 + signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_exit_code_of_a_pool_is_handed_on():
    assert subprocess.run([*POOL, sys.executable, "-c", "raise SystemExit(3)"], check=False).returncode == 3


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [("2,3", ["2", "3"]), ("", ["0", "1"]), ("3", ["3"]), ("0,1,2,3", ["0", "1"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"])],
)
def test_workers_are_pinned_to_the_gpus_that_the_job_was_given(visible, wanted):
    words = ["process_worker_pool.py", "-p", "0", "--available-accelerators", "0", "1"]

    assert with_given_gpus(words, {"CUDA_VISIBLE_DEVICES": visible}) == [*words[:-2], *wanted]


def started_before_the_end(seconds, *options):
    """Start a pool whose nodes are taken back in some seconds; what its command is reported and its complaint."""
    show = "import sys; print(*sys.argv[1:])"
    words = [*POOL, *options, sys.executable, "-c", show, "--hb_threshold=20", "--drain_period=7000"]
    environment = {**os.environ, BLOCK_END: str(int(time.time()) + seconds)} if seconds else None
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_a_pool_counts_the_time_for_taking_tasks_from_the_end_of_its_nodes_however_late_it_starts():
    said = started_before_the_end(500, "--reserve=90", "--stay").stdout

    assert 380 <= int(re.findall(r"--drain_period=(\d+)", said)[0]) <= 410
    assert "--hb_threshold=20" in said


def test_a_pool_whose_nodes_nobody_takes_back_is_left_as_it_is():
    assert "--drain_period=7000" in started_before_the_end(0, "--reserve=90").stdout


def test_a_pool_for_which_no_time_is_left_starts_nothing_and_says_so():
    done = started_before_the_end(60, "--reserve=90")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no task would end before the nodes are taken back" in done.stderr


def test_in_an_allocation_such_a_pool_stays_to_the_end():
    began = time.time()

    done = started_before_the_end(4, "--reserve=90", "--stay")

    assert (done.returncode, done.stdout) == (1, "")
    assert time.time() >= int(began) + 4


def test_workers_without_gpus_stay_without():
    words = ["process_worker_pool.py", "--available-accelerators"]

    assert with_given_gpus(words, {"CUDA_VISIBLE_DEVICES": "0"}) == words
    assert with_given_gpus(["pool"], {"CUDA_VISIBLE_DEVICES": "0"}) == ["pool"]
