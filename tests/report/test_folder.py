from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.files import write_json
from quatrain.report.folder import Missing, RunFolder, section
from quatrain.report.page import Note, Section


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_an_absent_and_a_broken_file_are_distinguished(folder):
    (folder.path / "torn.json").write_text('{"a": ')

    with pytest.raises(Missing, match=r"the run has written no table\.json"):
        folder.json("table.json")
    with pytest.raises(Missing, match=r"torn\.json cannot be read"):
        folder.json("torn.json")


@pytest.mark.parametrize("text", ["", "{", "[1]", "7"])
def test_what_is_no_object_counts_as_an_empty_one(folder, text):
    (folder.path / "run.json").write_text(text)

    assert folder.mapping("run.json") == {}
    assert folder.facts() == ()


@pytest.mark.parametrize("value", [[], {}, [1, 2], "rows"])
def test_a_table_without_rows_is_missing(folder, value):
    write_json(folder.path / "table.json", value)

    with pytest.raises(Missing, match=r"table\.json holds nothing"):
        folder.rows("table.json")


def test_lines_skip_a_torn_tail_and_whatever_is_no_object(folder):
    (folder.path / "x.jsonl").write_text('{"a": 1}\n[2]\n{"a": 3')

    assert folder.lines("x.jsonl") == [{"a": 1}]
    assert folder.lines("absent.jsonl") == []


def test_the_command_is_reported_as_it_is_typed(folder):
    write_json(folder.path / "run.json", {"command": ["quatrain", "nas", "--data", "my images"]})

    assert folder.command == "quatrain nas --data 'my images'"


def test_facts_come_from_both_files_and_leave_out_what_is_unknown(folder):
    run = {"seed": 0, "git": None, "site": {"name": "local"}, "versions": {"torch": "2"}}
    write_json(folder.path / "run.json", run)
    write_json(folder.path / "summary.json", {"state": "done", "seconds": 61.0})

    assert folder.facts() == (
        ("seed", "0"),
        ("state", "done"),
        ("wall time", "1 min 1 s"),
        ("site", "local"),
        ("torch", "2"),
    )


@pytest.mark.parametrize(("changed", "reported"), [(False, "0123456789ab"), (True, "0123456789ab, with changes")])
def test_a_commit_is_reported_in_words(folder, changed, reported):
    write_json(folder.path / "run.json", {"git": {"commit": "0123456789abcdef", "changed": changed}})

    assert folder.facts() == (("git", reported),)


def test_a_run_that_writes_its_own_report_is_not_called_running_in_it(folder):
    write_json(folder.path / "summary.json", {"state": "running", "seconds": 9.0})

    assert folder.facts() == (("wall time", "9 s"),)


def test_a_section_that_misses_its_files_says_so(folder):
    def make(title: str, files: RunFolder) -> Section:
        return Section(title=title, lead=str(files.json("table.json")))

    left_out = section("nets", make, folder)
    write_json(folder.path / "table.json", 5)

    assert left_out.title == "nets"
    assert left_out.blocks == (Note(text="Left out: the run has written no table.json."),)
    assert section("nets", make, folder).lead == "5"
