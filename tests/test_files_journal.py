from __future__ import annotations

import errno
import os
import threading

import pytest

from quatrain.files import Journal, read_lines


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
        journal._lock, journal._descriptor = threading.Lock(), full.fileno()
        journal._dirty = journal._torn = False

        with pytest.raises(OSError, match="No space left"):
            journal.append({"a": 1})


def test_a_line_that_a_full_disk_tore_is_not_glued_to_the_next(tmp_path, monkeypatch):
    journal, write, room = Journal(tmp_path / "events.jsonl"), os.write, [20]

    def fill(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: room[0]]
        room[0] -= len(part)
        return write(descriptor, part)

    monkeypatch.setattr("quatrain.files.os.write", fill)
    journal.append({"a": 1})
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            journal.append({"a": "which does not fit any more"})
    room[0] = 1000
    journal.append({"a": 2})
    journal.append({"a": 3})
    journal.close()

    assert list(read_lines(tmp_path / "events.jsonl")) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_closing_twice_is_closing_once(tmp_path):
    journal = Journal(tmp_path / "events.jsonl")
    journal.append(1)
    journal.sync()

    journal.close()
    journal.close()

    assert list(read_lines(tmp_path / "events.jsonl")) == [1]
