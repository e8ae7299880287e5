"""The `quatrain` command: the workflows by name, and what looks after their runs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import quatrain
from quatrain import workflows
from quatrain.errors import UsageError, unknown
from quatrain.hpc.cli import EXIT_CODES, guarded


def names() -> tuple[str, ...]:
    """Return the names of the workflows that are there."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(workflows.__path__) if not m.name.startswith("_")))


def usage() -> str:
    """Return the help text: every command with one line; no workflow is imported for it."""
    lines = [(name, _first_line(name)) for name in names()]
    lines += [
        ("check DATA", "Report how every file of DATA is read, before anything runs; --json for programs."),
        ("export CHECKPOINT", "Write a delivered sub-network as ONNX; --out DIR names the folder."),
        ("submit WORKFLOW", "Put a workflow's driver itself into a job, which is queued again at its walltime."),
        ("status RUN_DIR", "Print the state of a run; --watch repeats it until the run ends."),
        ("sites [NAME]", "List the sites that --site knows, or print the facts of one."),
        ("sites check NAME", "Print what keeps a run on a site from starting here."),
    ]
    width = max(len(name) for name, _ in lines)
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in lines)
    return (
        f"usage: quatrain COMMAND [FLAGS]\n\ncommands:\n{commands}\n\n"
        f"quatrain COMMAND --help lists the flags of a command."
        f"\n\n{EXIT_CODES}"
    )


def _first_line(name: str) -> str:
    source = Path(next(iter(workflows.__path__))) / f"{name}.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf8"))) or "").partition("\n")[0]


def status(arguments: Sequence[str]) -> None:
    """Print the state of the run in one folder, with --watch until it ends."""
    from quatrain.hpc.status import command

    command(arguments)


def sites(arguments: Sequence[str]) -> None:
    """Print every site with its description, one site's facts, or what is wrong with one here."""
    from quatrain.hpc.site_check import command

    command(arguments)


def export(arguments: Sequence[str]) -> None:
    """Write a delivered sub-network's encoder and decoder as ONNX, checked and timed against torch."""
    usage = "usage: quatrain export CHECKPOINT [--out DIR]"
    match list(arguments):
        case [path] if not path.startswith("-"):
            out = Path(path).with_name(f"{Path(path).stem}-onnx")
        case [path, "--out", folder] | ["--out", folder, path]:
            out = Path(folder)
        case ["-h" | "--help"]:
            print(usage)
            return
        case _:
            raise UsageError(usage)
    from quatrain.supernet import onnx_export  # torch only when there is something to export

    print(f"{onnx_export.summary(onnx_export.export(path, out))}\nexport: {out}")


def check(arguments: Sequence[str]) -> None:
    """Print how every file of a source is read; exit with 1 for warnings and 2 when it cannot be used."""
    from quatrain.workflows._check import command

    raise SystemExit(command(arguments))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "check": check,
    "export": export,
    "status": status,
    "sites": sites,
}


USAGE = {
    "submit": "submit WORKFLOW [FLAGS OF THE WORKFLOW]",
    "status": "status RUN_DIR [--watch]",
    "sites": "sites [NAME] | quatrain sites check NAME [--account ... --nodes ...]",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command, rest = given[0], given[1:]
    if command == "submit" and rest and rest[0] in names():
        command, rest = rest[0], [*rest[1:], "--submit"]
    if command in names():
        return int(importlib.import_module(f"quatrain.workflows.{command}").main(rest))
    return guarded(lambda: _other(command, rest))


def _other(command: str, rest: Sequence[str]) -> None:
    if command in ("-h", "--help", "--version"):
        print(quatrain.__version__ if command == "--version" else usage())
        return
    if rest in (["-h"], ["--help"]) and command in USAGE:
        print(f"usage: quatrain {USAGE[command]}")
        return
    if command == "submit":
        if not rest:
            raise UsageError(f"usage: quatrain {USAGE[command]}")
        raise unknown("workflow", rest[0], names())
    if command not in COMMANDS:
        raise unknown("command", command, [*names(), "submit", *COMMANDS])
    COMMANDS[command](rest)


if __name__ == "__main__":
    sys.exit(main())
