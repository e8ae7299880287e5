from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.errors import UsageError
from quatrain.hpc import versions
from quatrain.hpc.memoizer import FILE, Memo
from quatrain.supernet.space import Subnet


@pytest.fixture
def memo(tmp_path):
    memory = Memo(tmp_path, "cafe")
    yield memory
    memory.close()


def reopened(path: Path, identity: str = "cafe") -> Memo:
    memory = Memo(path, identity)
    memory.close()
    return memory


def test_what_was_remembered_is_there_for_the_next_driver(memo, tmp_path):
    key = memo.key("measure", (1, "a"), {"seed": 3})

    assert key not in memo
    assert memo.remember(key, "measure-0001", {"miou": 0.5}) == {"miou": 0.5}

    again = reopened(tmp_path)
    assert again.key("measure", (1, "a"), {"seed": 3}) == key
    assert again[key] == {"miou": 0.5}


def test_a_result_reads_the_same_at_once_and_later(memo, tmp_path):
    key = memo.key("measure", (), {})

    fresh = memo.remember(key, "measure-0001", {"pair": (1, 2), "net": Subnet(widths=(3, 0)), "where": Path("/a")})

    assert fresh == reopened(tmp_path)[key] == {"pair": [1, 2], "net": {"widths": [3, 0]}, "where": "/a"}


def test_a_returned_result_may_be_changed_without_changing_the_memory(memo):
    key = memo.key("measure", (), {})
    memo.remember(key, "measure-0001", [1])

    memo[key].append(2)

    assert memo[key] == [1]


def test_a_torn_last_line_is_forgotten_and_nothing_else(memo, tmp_path):
    keys = [memo.key("measure", (number,), {}) for number in range(3)]
    for number, key in enumerate(keys):
        memo.remember(key, f"measure-{number}", number)
    memo.sync()
    os.truncate(tmp_path / FILE, (tmp_path / FILE).stat().st_size - 3)

    again = reopened(tmp_path)

    assert [key in again for key in keys] == [True, True, False]


def test_lines_of_another_making_are_passed_over(tmp_path):
    (tmp_path / FILE).write_text('[1]\n{"key": "only"}\n\x00\xff\n{"key": "k", "result": 7}\n')

    assert reopened(tmp_path)["k"] == 7


@given(st.integers(), st.integers())
def test_different_arguments_have_different_keys(tmp_path_factory, a, b):
    memory = reopened(tmp_path_factory.getbasetemp() / "memo")

    assert (memory.key("task", (a,), {}) == memory.key("task", (b,), {})) == (a == b)
    assert memory.key("task", (a,), {}) != memory.key("other", (a,), {})
    assert memory.key("task", (a,), {}) != memory.key("task", (), {"x": a})


def test_another_configuration_or_other_code_has_other_keys(memo, tmp_path, monkeypatch):
    key = memo.key("task", (1,), {})

    assert reopened(tmp_path, "beef").key("task", (1,), {}) != key
    memo.remember(key, "task-0001", 1)
    assert reopened(tmp_path).of_other_code == 0
    monkeypatch.setattr(versions, "code", lambda: "f00d")
    assert reopened(tmp_path).key("task", (1,), {}) != key
    assert reopened(tmp_path).of_other_code == 1


def test_a_run_folder_that_moved_keeps_its_results(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    first = reopened(before)
    second = reopened(after)

    assert first.key("t", (before / "net.pt",), {}) == second.key("t", (after / "net.pt",), {})
    assert first.key("t", (before / "net.pt",), {}) != first.key("t", (before / "other.pt",), {})


def test_an_argument_that_is_no_plain_data_is_named(memo):
    with pytest.raises(UsageError, match="'train' got an argument"):
        memo.key("train", (object(),), {})


def test_a_call_without_a_key_leaves_nothing_behind(memo, tmp_path):
    assert memo.remember(None, "probe-0001", (1, 2)) == [1, 2]
    assert (tmp_path / FILE).read_text() == ""
