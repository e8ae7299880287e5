"""Runs distributed programs from a task, with a log in the run folder and no process left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from quatrain.errors import UNWRITABLE, UsageError
from quatrain.hpc import allocation as slurm
from quatrain.hpc import process_guard
from quatrain.hpc.allocation import Allocation
from quatrain.hpc.rendezvous import meeting_point
from quatrain.hpc.srun import SRUN_OPTIONS, srun_argv

CONTAINER = "QUATRAIN_CONTAINER"
"""Variable of workers outside of an image: the shell words that start a program inside of it."""
TORCHRUN = ("-m", "torch.distributed.run")
TAIL_LINES = 20
COMPLAINT = "quatrain: "
"""Prefix of the line in which quatrain's programs report a user's mistake."""
REFUSED = re.compile(r"\b(?:OSError|PermissionError): \[Errno (\d+)\] (.*: '.*'|No space left .*|Disk quota .*)")
"""Python's messages for a file that the system refused, or for a full disk."""
KILL_WAIT_S = 120
"""Seconds; longer than Slurm waits between ending a job's steps and killing its remaining processes."""


class CommandError(Exception):
    """A program ended with another code than 0; the message holds the end of its log."""


def torchrun_argv(arguments: Sequence[object], processes: int, container: Sequence[str] = ()) -> list[str]:
    """Return torchrun on this machine; `arguments` are those after its own, such as `-m MODULE ARG`.

    In a container its own Python runs.
    """
    return [
        *inside(container),
        *TORCHRUN,
        "--standalone",
        "--nnodes=1",
        f"--nproc-per-node={processes}",
        *_texts(arguments),
    ]


def torchrun_on_nodes(
    arguments: Sequence[object], allocation: Allocation, processes: int, container: Sequence[str] = ()
) -> list[str]:
    """Return the torchrun that starts on each node of an allocation, with `processes` processes per node.

    The processes meet at a free port of this machine, the allocation's first node.
    """
    return [
        *inside(container),
        *TORCHRUN,
        f"--nnodes={len(allocation.nodes)}",
        f"--nproc-per-node={processes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={meeting_point(allocation.nodes[0])}",
        f"--rdzv-id={allocation.job_id}",
        *_texts(arguments),
    ]


def inside(container: Sequence[str]) -> list[str]:
    """Return the words that start Python: that of the container, or this one without a container."""
    return [*container, "python3"] if container else [sys.executable]


def container_words(environment: Mapping[str, str]) -> list[str]:
    """Return the words that run a program in the container of a worker's site; empty without a container."""
    return shlex.split(environment.get(CONTAINER, ""))


def _texts(arguments: Sequence[object]) -> list[str]:
    return [os.fspath(item) if isinstance(item, os.PathLike) else str(item) for item in arguments]


def launch(arguments: Sequence[object], *, processes: int, log: Path, gpus: int = 0) -> None:
    """Run a torch program with `processes` processes per node: with srun on the nodes of a Slurm block, else here.

    `arguments` are `-m MODULE ARG...` or a script and its arguments. Raises UsageError when the program complained
    of the user's input in one line, CommandError when it failed otherwise.
    """
    environment = dict(os.environ)
    allocation = slurm.current(environment) if SRUN_OPTIONS in environment else None
    threads_here = int(environment.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    environment["OMP_NUM_THREADS"] = str(max(1, threads_here // processes))
    container = container_words(environment)
    if allocation is None:
        run(torchrun_argv(arguments, processes, container), log=log, environment=environment)
    else:
        command = torchrun_on_nodes(arguments, allocation, processes, container)
        argv = srun_argv(allocation, command, environment, gpus=gpus)
        run(argv, log=log, environment=slurm.step_environment(environment))


def python(arguments: Sequence[object], *, log: Path) -> None:
    """Run Python with `-m MODULE ARG...`, in the site's container if it has one; errors as for `launch`."""
    run([*inside(container_words(os.environ)), *_texts(arguments)], log=log)


def run(argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a program with its output appended to `log`; if this process dies or is interrupted, the program ends.

    Raises UsageError or CommandError, as `launch` does, if its exit code is not 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        start = sink.tell()
        try:
            program = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"{argv[0]} does not start: {error.strerror}") from error
        _await(program)
    if program.returncode:
        if time.time() > float(os.environ.get(slurm.BLOCK_END) or "inf"):
            # Slurm ends a job's steps first and this worker later: the task did not fail and continues on other nodes
            time.sleep(KILL_WAIT_S)
        raise _failure(argv, program.returncode, log, start)


def _await(program: subprocess.Popen[bytes]) -> None:
    """Wait for a program with a guard beside it, which outlives this process and then ends the program's group."""
    watch = [sys.executable, "-I", "-S", process_guard.__file__, str(program.pid)]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            program.wait()
        finally:
            with contextlib.suppress(BrokenPipeError):  # a guard that somebody killed
                watcher.communicate(b"done") if program.returncode is not None else _close(watcher)
            program.wait()  # before the guard, which waits until nothing of the group is left


def _close(watcher: subprocess.Popen[bytes]) -> None:
    assert watcher.stdin is not None
    watcher.stdin.close()


def _failure(argv: Sequence[str], code: int, log: Path, start: int) -> Exception:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()[-500:]
    complaints = [line[len(COMPLAINT) :] for line in lines if line.startswith(COMPLAINT)]
    if complaints:
        return UsageError(complaints[-1])
    if refused := [match for line in lines if (match := REFUSED.search(line)) and int(match[1]) in UNWRITABLE]:
        return UsageError(f"a file cannot be written: {refused[-1][2]} (its program's log is {log})")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    tail = "\n".join(lines[-TAIL_LINES:])
    return CommandError(f"{Path(argv[0]).name} {how}; the end of {log}:\n{tail}")
