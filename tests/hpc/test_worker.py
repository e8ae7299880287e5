from __future__ import annotations

import os

from quatrain.hpc.worker import Reports, report


def test_each_report_is_given_once(tmp_path):
    reports = Reports(tmp_path)
    assert reports.new() == []

    report(tmp_path, "measure-0001", "nid1")
    report(tmp_path, "measure-0002", "nid1")
    assert [line["task"] for line in reports.new()] == ["measure-0001", "measure-0002"]

    report(tmp_path, "measure-0003", "nid1")
    assert [(line["task"], line["node"]) for line in reports.new()] == [("measure-0003", "nid1")]
    assert reports.new() == []


def test_a_line_that_is_still_being_written_waits(tmp_path):
    path, reports = tmp_path / f"nid1-{os.getpid()}.jsonl", Reports(tmp_path)
    rest = b', "node": "nid1", "at": 1.5}\n'
    path.write_bytes(b'{"task": "a"' + rest + b'{"ta')

    assert [line["task"] for line in reports.new()] == ["a"]
    with path.open("ab") as file:
        file.write(b'sk": "b"' + rest)
    assert [line["task"] for line in reports.new()] == ["b"]


def test_lines_that_are_no_reports_are_passed_over(tmp_path):
    (tmp_path / "nid1-1.jsonl").write_bytes(
        b'\0\0\0\n[1]\n{"task": "a"}\n{"task": "b", "node": "n", "at": "soon"}\n\xff\n'
    )
    report(tmp_path, "measure-0001", "nid1")

    assert [line["task"] for line in Reports(tmp_path).new()] == ["measure-0001"]
