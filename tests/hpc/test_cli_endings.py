"""How commands end: exit codes, one line for what the user can mend, nothing behind a closed pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from quatrain.errors import UsageError
from quatrain.hpc import cli


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Nothing is asked."""


def refused(capsys):
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("quatrain: ")
    return said


def test_a_disk_without_space_is_one_line(capsys):
    def fill():
        raise OSError(28, "No space left on device", "runs/a")

    assert cli.guarded(fill) == 2
    assert "runs/a cannot be written: No space left on device" in refused(capsys)


def test_an_error_of_our_own_is_not_hidden():
    def broken():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        cli.guarded(broken)
    with pytest.raises(TypeError):
        cli.guarded(lambda: len(3))


@pytest.mark.parametrize(
    "words", ["--help", "--version", "nas --help", "sites", "sites perlmutter", "nas --dry-run", "x"]
)
def test_a_command_whose_output_nobody_reads_ends_quietly_as_sigpipe_would_end_it(tmp_path, words):
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "quatrain.workflows", *words.split()]

    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)

    os.close(writer)
    assert (done.returncode, done.stderr.count("\n")) == ((2, 1) if words == "x" else (128 + signal.SIGPIPE, 0))


def test_a_file_without_a_right_to_it_is_one_line(capsys):
    def write():
        raise PermissionError(13, "Permission denied", "runs/a")

    assert cli.guarded(write) == 2
    assert "runs/a cannot be opened: Permission denied" in refused(capsys)


def test_a_task_without_disk_space_is_a_usage_error_of_one_line(tmp_path, capsys):
    def fill(_asked, session):
        session.app(Path.write_text, shape="gpu", name="fill")(Path("/dev/full"), "much").result()

    workflow = cli.Workflow(name="trial", description="Fills.", presets={"only": Asked}, plan=lambda _: (), work=fill)

    assert cli.main(workflow, ["--site", "local-threads", "--run-root", str(tmp_path)]) == 2

    said = [line for line in capsys.readouterr().err.splitlines() if "logs are in" not in line]
    assert len(said) == 1
    assert said[0].startswith("quatrain: task fill-0001 on ")
    assert said[0].endswith("cannot be written: No space left on device; fix that and continue with --resume")


def test_a_usage_error_of_several_lines_is_reported_in_one(capsys):
    def complain():
        raise UsageError("first\nsecond")

    assert cli.guarded(complain) == 2
    assert refused(capsys) == "quatrain: first second\n"
