from __future__ import annotations

import threading

import pytest

from quatrain.hpc.journal import Journal
from quatrain.records import read_lines


def test_lines_of_many_threads_arrive_whole(tmp_path):
    journal = Journal(tmp_path / "events.jsonl")

    def write(number):
        for step in range(50):
            journal.append({"thread": number, "step": step})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()

    assert len(list(read_lines(tmp_path / "events.jsonl"))) == 200


def test_a_torn_tail_costs_only_itself(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')

    journal = Journal(path)
    journal.append({"a": 3})
    journal.close()

    assert list(read_lines(path)) == [{"a": 1}, {"a": 3}]


def test_a_full_disk_is_an_error_that_says_so():
    journal = Journal.__new__(Journal)
    with open("/dev/full", "r+b", buffering=0) as full:
        journal._lock, journal._descriptor, journal._dirty = threading.Lock(), full.fileno(), False

        with pytest.raises(OSError, match="No space left"):
            journal.append({"a": 1})


def test_closing_twice_is_closing_once(tmp_path):
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(1)
    journal.sync()

    journal.close()
    journal.close()

    assert list(read_lines(tmp_path / "events.jsonl")) == [1]
