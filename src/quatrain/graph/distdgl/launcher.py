"""Start and supervise the processes of machines: `python -m quatrain.graph.distdgl.launcher RUN_DIR MACHINE...`.

It publishes the addresses of its servers, then starts and watches a server and the trainers of each of its machines.
When a process here or on another host fails, all end, and the last lines of the failed process's log are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from quatrain.errors import UsageError
from quatrain.files import read_json, write_json, write_text
from quatrain.graph.distdgl.job import Job, write_addresses

POLL_S = 0.1
PATIENCE_S = 120.0
"""Seconds that the machines of a job wait for each other."""
GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
TAIL_LINES = 15

PROGRAMS = {"server": "quatrain.graph.distdgl.server", "train": "quatrain.graph.train"}
"""The modules of a machine's processes."""


class ProcessFailed(Exception):  # noqa: N818 - an event of the run, not a mistake of the user
    """A process of the job, here or on another machine, failed."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process of a machine."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class HostSupervisor:
    """Starts and watches the processes of one host's machines."""

    def __init__(self, job: Job, machines: Sequence[int], address: str, programs: Mapping[str, str] = PROGRAMS) -> None:
        """Take the numbers of this host's machines, the host's address, and the module of each role."""
        self.job, self.machines, self.address, self.programs = job, machines, address, programs
        self.children: list[Child] = []

    def run(self) -> None:
        """Start all processes and wait until they end; ProcessFailed when one fails."""
        with self._clean():
            self._publish()
            self._await_others()
            for machine in self.machines:
                self._start("server", machine)
            for machine in self.machines:
                for trainer in range(self.job.trainers):
                    self._start("train", machine, trainer)
            while any(child.process.poll() is None for child in self.children):
                self._check_processes()
                time.sleep(POLL_S)
            self._check_processes()

    def _publish(self) -> None:
        """Write the addresses of the servers of this host's machines."""
        ports = free_ports(self.address, self.job.port, len(self.machines))
        for machine, port in zip(self.machines, ports, strict=True):
            (meeting,) = free_ports(self.address, 0, 1)
            record = {"address": self.address, "port": port, "meeting": meeting, "name": self.job.name}
            write_json(self.job.place / f"machine{machine}.json", record)

    def _await_others(self) -> None:
        """Wait until every machine has written its address, then write DGL's list of them."""
        paths = [self.job.place / f"machine{machine}.json" for machine in range(self.job.machines)]
        until = time.monotonic() + PATIENCE_S
        while lacking := [path for path in paths if not _is_of(path, self.job.name)]:
            if time.monotonic() > until:
                raise ProcessFailed(f"{lacking[0].stem} of {len(paths)} did not appear within {PATIENCE_S:.0f} s")
            self._check_processes()
            time.sleep(POLL_S)
        records = [read_json(path) for path in paths]
        write_addresses(self.job, [(record["address"], record["port"]) for record in records])

    def _start(self, role: str, *numbers: int) -> None:
        name = "-".join([role, *map(str, numbers)])
        log = self.job.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", self.programs[role], str(self.job.folder), *map(str, numbers)]
        trainers = len(self.machines) * self.job.trainers
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.job.threads or default_threads(trainers))}
        if self.address.startswith("127."):
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=environment,
                preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - this process has no other threads
            )  # fmt: skip
        self.children.append(Child(name, process, log))

    def _check_processes(self) -> None:
        """Raise ProcessFailed when a child of this host or a process of another host has failed."""
        failed = self.job.place / "failed"
        for child in self.children:
            if code := child.process.poll():
                text = f"{child.name} {ending(code)}; the end of {child.log}:\n{tail(child.log)}"
                write_text(failed, text)
                raise ProcessFailed(text)
        if failed.exists():
            raise ProcessFailed(failed.read_text(encoding="utf8"))

    @contextlib.contextmanager
    def _clean(self) -> Iterator[None]:
        """End all children and remove the job's shared memory, however the block ends."""
        try:
            yield
        finally:
            with _sigterm_ignored():
                for child in self.children:
                    child.process.terminate()
                until = time.monotonic() + GRACE_S
                for child in self.children:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.process.wait(max(0.0, until - time.monotonic()))
                    child.process.kill()
                    child.process.wait()
                self.job.sweep()


@contextlib.contextmanager
def _sigterm_ignored() -> Iterator[None]:
    """Ignore SIGTERM in the block, if this is the main thread, so that cleaning up completes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def default_threads(trainers: int) -> int:
    """Return the OpenMP threads per process on a host with some trainers: half of each trainer's share of the cores.

    The other half serves the thread that prepares batches and the servers.
    """
    return max(1, len(os.sched_getaffinity(0)) // trainers // 2)


def free_ports(address: str, first: int, count: int) -> list[int]:
    """Return free ports of an address: `first` and the next ones, or any ports if it is 0.

    Raises
    ------
    UsageError
        When one of the given ports is in use.
    """
    with contextlib.ExitStack() as opened:
        ports = []
        for index in range(count):
            port = first + index if first else 0
            held = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind((address, port))
            except OSError as error:
                raise UsageError(
                    f"port {port} of {address} cannot be used ({error.strerror}): "
                    "give another --cluster.port, or 0 for any free one"
                ) from error
            ports.append(held.getsockname()[1])
    return ports


def ending(code: int) -> str:
    """Return in words how a process ended."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf8", errors="replace").splitlines()[-TAIL_LINES:])


def _is_of(path: Path, name: str) -> bool:
    """Return whether a machine's file exists and belongs to this job, not to an earlier one in the folder."""
    try:
        return bool(read_json(path)["name"] == name)
    except (OSError, ValueError):
        return False


def _dies_with(parent: int) -> Callable[[], None]:
    """Return what a child does first: ask Linux for SIGTERM when its parent dies, in whatever way."""
    library, death_signal = ctypes.CDLL(None), 1

    def arrange() -> None:
        library.prctl(death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return arrange


def own_address() -> str:
    """Return the address under which other hosts reach this one, or that of the loop where there is no network."""
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(socket.gethostname())
        if not address.startswith("127."):
            return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # an address of nobody's: this sends nothing, it only chooses the interface
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _exit_in_order(number: int, _frame: FrameType | None) -> None:
    """Exit at the first SIGTERM and ignore later ones, so that cleaning up completes."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """Supervise machines until their job is done; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("machines", type=int, nargs="+", help="numbers of this host's machines")
    parser.add_argument("--address", help="address of this host for the others")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _exit_in_order)
    try:
        job = Job.read(given.run_dir)
        alone = len(given.machines) == job.machines
        HostSupervisor(job, given.machines, given.address or ("127.0.0.1" if alone else own_address())).run()
    except UsageError as error:
        print(f"quatrain: {error}", file=sys.stderr)
        return 2
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
