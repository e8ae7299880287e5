from __future__ import annotations

import subprocess
import sys

import pytest

from quatrain import __version__
from quatrain.hpc import site_registry
from quatrain.hpc.run import Run
from quatrain.workflows import __main__ as command


def test_help_lists_the_workflows_that_are_there_and_the_other_commands(capsys):
    for words in ([], ["--help"], ["-h"]):
        assert command.main(words) == 0
        said = capsys.readouterr().out
        assert all(f"  {name} " in said for name in (*command.names(), "submit", "status", "sites"))


def test_no_workflow_is_imported_to_be_listed():
    program = (
        "import sys; from quatrain.workflows.__main__ import main; main(['--help']); assert 'parsl' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert command.main(["stauts"]) == 2
    assert "did you mean 'status'?" in capsys.readouterr().err


def test_a_workflow_gets_the_rest_of_the_words(monkeypatch):
    given = []
    monkeypatch.setattr(command, "names", lambda: ("trial",))
    module = type(sys)("quatrain.workflows.trial")
    module.main = lambda words: given.extend(words) or 7
    monkeypatch.setitem(sys.modules, "quatrain.workflows.trial", module)

    assert command.main(["trial", "--site", "local"]) == 7
    assert given == ["--site", "local"]


def test_sites_are_listed_with_one_line_each(capsys):
    assert command.main(["sites"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(site_registry.names())
    assert all(len(line.split()) > 3 for line in lines)


def test_one_site_is_reported_in_full(capsys):
    assert command.main(["sites", "perlmutter-shifter"]) == 0

    said = capsys.readouterr().out
    assert "container: shifter --module=gpu,nccl-plugin" in said
    assert "qos debug: at most 30 min, 8 nodes" in said


def test_a_check_reports_that_all_is_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert command.main(["sites", "check", "local"]) == 0
    assert "no problems on this machine" in capsys.readouterr().out


def test_a_check_reports_each_problem_and_ends_with_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert command.main(["sites", "check", "perlmutter", "--account", "m1", "--walltime", "31"]) == 2

    said = capsys.readouterr()
    assert [part in said.out for part in ("sbatch", "have the form", "over 30 minutes")] == [True] * 3
    assert said.err == "quatrain: 3 problems with site perlmutter on this machine\n"


def test_a_submission_is_the_workflow_with_one_more_flag(monkeypatch):
    given = []
    monkeypatch.setattr(command, "names", lambda: ("trial",))
    module = type(sys)("quatrain.workflows.trial")
    module.main = lambda words: given.extend(words) or 0
    monkeypatch.setitem(sys.modules, "quatrain.workflows.trial", module)

    assert command.main(["submit", "trial", "--nodes", "4"]) == 0
    assert given == ["--nodes", "4", "--submit"]


def test_an_unknown_workflow_is_not_submitted(capsys):
    assert command.main(["submit", "nsa"]) == 2
    assert "did you mean 'nas'?" in capsys.readouterr().err


def test_the_state_of_a_run_is_reported(tmp_path, capsys):
    with Run.create("nas", {}, root=tmp_path) as run:
        pass

    assert command.main(["status", str(run.path)]) == 0
    assert "done" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "a", "b"],
        ["sites", "a"],
        ["sites", "local", "b"],
        ["sites", "check"],
        ["sites", "check", "local", "--nodse", "2"],
        ["status", "nowhere"],
        ["submit"],
    ],
)
def test_wrong_words_are_a_usage_error(words, capsys):
    assert command.main(words) == 2
    assert capsys.readouterr().err.startswith("quatrain: ")


def test_the_version_is_reported(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("name", ["submit", "status", "sites", "export"])
def test_every_command_reports_its_usage_when_asked(name, capsys):
    assert command.main([name, "--help"]) == 0

    assert capsys.readouterr().out.startswith(f"usage: quatrain {name} ")
