from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain import files as records
from quatrain.files import append_line, fingerprint, plain, read_json, read_lines, replacing, write_json, write_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.lists(st.dictionaries(st.text(max_size=4), SCALARS, max_size=3), max_size=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    where: Path
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    inner: Inner
    note: str = "°"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.json"


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return tmp_path_factory.mktemp("journal") / "events.jsonl"


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_a_file_and_its_folders_appear_when_the_writer_is_done(path):
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent

    assert path.read_text() == "new"
    assert files(path) == ["file.json"]


def break_off(path, failure):
    with replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise failure


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_content_and_no_temporary_file(path, failure):
    write_text(path, "old")

    with pytest.raises(type(failure)):
        break_off(path, failure)

    assert path.read_text() == "old"
    assert files(path) == ["file.json"]


def test_a_writer_that_fails_at_first_leaves_nothing(path):
    with pytest.raises(OSError, match="disk full"):
        break_off(path, OSError("disk full"))

    assert files(path) == []


def test_the_content_is_on_the_disk_before_it_takes_its_name(path, monkeypatch):
    seen = []
    monkeypatch.setattr(records.os, "fsync", lambda _descriptor: seen.append(path.exists()))

    write_text(path, "new")

    assert seen == [False, True]  # the file before the rename, its folder after


def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_content(path, monkeypatch):
    write_text(path, "old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")

    assert path.read_text() == "old"
    assert files(path) == ["file.json"]


@pytest.mark.parametrize("name", ["weights.pth", "page.html", "results.tar.gz", "no-suffix"])
def test_the_temporary_file_keeps_the_suffix_and_hides(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        assert temporary.suffix == Path(name).suffix
        assert temporary.name.startswith(".")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_file_gets_the_rights_that_the_user_gives_new_files(path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(path, "new")
        assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_writers_of_the_same_file_at_once_do_not_mix(path):
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert path.read_text() == "first"  # the last to finish
    assert files(path) == ["file.json"]


@given(value=VALUES)
def test_json_comes_back_as_it_was_written(journal, value):
    write_json(journal, value)

    assert read_json(journal) == value


def test_a_file_that_is_no_json_is_named(path):
    write_text(path, '{"half": ')

    with pytest.raises(ValueError, match=r"file\.json is not JSON"):
        read_json(path)


def test_bytes_that_are_no_text_are_no_json_either(tmp_path):
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff")

    with pytest.raises(ValueError, match=r"picture\.json is not JSON"):
        read_json(tmp_path / "picture.json")


def test_what_cannot_be_json_is_refused_and_the_old_file_stays(path):
    write_json(path, {"state": "running"})

    with pytest.raises(TypeError):
        write_json(path, {"state": object()})

    assert read_json(path) == {"state": "running"}


def test_plain_turns_dataclasses_paths_tuples_and_numpy_scalars_into_json():
    value = {1: Outer(inner=Inner(where=Path("a/b"), sizes=(1, 2))), "mean": np.float32(0.5), "n": [np.int64(3)]}

    assert plain(value) == {
        "1": {"inner": {"where": "a/b", "sizes": [1, 2]}, "note": "°"},
        "mean": 0.5,
        "n": [3],
    }
    assert json.loads(json.dumps(plain(value))) == plain(value)


def test_a_dataclass_itself_is_not_taken_for_its_value():
    assert plain(Inner) is Inner


@given(EVENTS)
def test_appended_lines_come_back_in_their_order(journal, events):
    journal.unlink(missing_ok=True)
    for event in events:
        append_line(journal, event)

    assert list(read_lines(journal)) == events


@given(EVENTS.filter(len), st.data())
def test_a_journal_torn_anywhere_keeps_every_line_before_the_tear_and_takes_new_ones(journal, events, data):
    journal.unlink(missing_ok=True)
    ends = [0]
    for event in events:
        append_line(journal, event)
        ends.append(journal.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(journal, cut)
    whole = sum(cut >= end - 1 for end in ends[1:])  # only the line's end is missing: its content is not

    assert list(read_lines(journal)) == events[:whole]
    append_line(journal, {"after": "the crash"})
    assert list(read_lines(journal)) == [*events[:whole], {"after": "the crash"}]


def test_a_tear_in_the_middle_of_a_character_is_passed_over(journal):
    journal.write_bytes('{"a": 1}\n{"b": "é'.encode()[:-1])

    assert list(read_lines(journal)) == [{"a": 1}]


def test_a_journal_that_is_not_there_yet_is_empty_and_its_folder_is_made(tmp_path):
    path = tmp_path / "run" / "events.jsonl"

    assert list(read_lines(path)) == []
    append_line(path, {"a": 1})
    assert list(read_lines(path)) == [{"a": 1}]


def test_an_event_is_one_line_whatever_breaks_its_text_holds(tmp_path):
    append_line(tmp_path / "events.jsonl", {"message": "line\nbreaks\r\nand\u2028others"})

    assert (tmp_path / "events.jsonl").read_bytes().count(b"\n") == 1


def test_writers_of_one_journal_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "events.jsonl"

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda number: append_line(path, {"number": number, "text": "x" * 500}), range(80)))

    assert sorted(event["number"] for event in read_lines(path)) == list(range(80))


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_fingerprint_depends_on_the_content_and_not_on_the_order_of_keys(value, random):
    items = list(value.items())
    random.shuffle(items)

    assert fingerprint(dict(items)) == fingerprint(value)
    assert fingerprint({**value, "one more key": 1}) != fingerprint(value)


def test_a_fingerprint_is_eight_digits_and_the_same_in_every_process():
    assert fingerprint({"seed": 0, "model": "vit_mini"}) == "d8eef12d"


def test_a_dataclass_has_the_fingerprint_of_its_fields():
    value = Inner(where=Path("a"), sizes=(1, 2))

    assert fingerprint(value) == fingerprint({"sizes": [1, 2], "where": "a"})
    assert fingerprint(value) != fingerprint(Inner(where=Path("a"), sizes=(2, 1)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_json_has_no_number_for_becomes_null(tmp_path, value):
    write_json(tmp_path / "summary.json", {"loss": [value, 1.5]})
    append_line(tmp_path / "losses.jsonl", {"loss": value})

    assert read_json(tmp_path / "summary.json") == {"loss": [None, 1.5]}
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    assert list(read_lines(tmp_path / "losses.jsonl")) == [{"loss": None}]
