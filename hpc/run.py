"""The run folder: configuration, events and results; other tools may read it during the run.

run.json, events.jsonl, finished.jsonl, blocks.jsonl, summary.json, heartbeat, checkpoints/, logs/, progress/ and
parsl/. Whole files are replaced atomically; lines that a crash cut short are skipped.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from quatrain.errors import UsageError
from quatrain.files import Journal, fingerprint, plain, read_json, write_json, write_text
from quatrain.hpc.placement import Placement
from quatrain.hpc.versions import git_commit, installed

FOLDERS = ("checkpoints", "logs", "progress", "parsl")
HEARTBEAT, BEAT_S = "heartbeat", 5.0
"""The file that a running driver touches, and the seconds between two touches."""
REQUEUED = "QUATRAIN_REQUEUED"
"""Set by the batch script of a driver in a job that Slurm starts again when the driver ends by SIGUSR1."""
HANDOVER_S = 60.0
"""Seconds that a driver in a job waits until the command that submitted it releases the run folder."""
CAUGHT = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that end a run in order; Slurm sends SIGUSR1 to a driver in a job some minutes before its walltime."""


class Terminated(SystemExit):
    """The driver received one of CAUGHT; its exit code is 128 + the signal."""


class Run:
    """One run folder, opened by one driver; as a context manager it records how the run ends."""

    def __init__(self, path: Path, facts: dict[str, Any], resumed: bool) -> None:
        self.path = path
        self.workflow: str = facts["workflow"]
        self.seed: int = facts["seed"]
        self.resumed = resumed
        self.identity = fingerprint({"configuration": facts["configuration"], "seed": facts["seed"]})
        """Hash of configuration and seed; part of the key of each stored result."""
        before = _previous_summary(path) if resumed else {}
        self._lock = _lock(path, HANDOVER_S if before.get("state") == "queued" else 0.0)
        self._summary = _previous_summary(path) if resumed else {}
        self._before_s = float(self._summary.get("seconds", 0.0))
        self._started = time.monotonic()
        self._events = Journal(path / "events.jsonl")
        self._handlers: dict[int, Any] = {}
        self._beaten = 0.0
        write_json(path / "run.json", facts)

    @classmethod
    def create(
        cls,
        workflow: str,
        configuration: object,
        *,
        root: Path,
        seed: int = 0,
        placement: Placement | None = None,
        command: Sequence[str] = (),
    ) -> Run:
        """Create a new folder under `root` and open it; UsageError if that folder cannot be written."""
        _check_spelling(root)
        asked = {"workflow": workflow, "configuration": plain(configuration), "seed": seed}
        try:
            path = _new_folder(root, workflow, fingerprint({key: asked[key] for key in ("configuration", "seed")}))
            for name in FOLDERS:
                (path / name).mkdir()
            return cls(path, {**asked, **_circumstances(placement, command), "resumed": []}, resumed=False)
        except OSError as error:
            raise UsageError(
                f"no run folder in {str(root)!r}: {error.strerror}; give another one with --run-root"
            ) from error

    @classmethod
    def resume(
        cls,
        path: Path,
        workflow: str,
        configuration: object,
        *,
        seed: int = 0,
        placement: Placement | None = None,
        command: Sequence[str] = (),
    ) -> Run:
        """Open the folder of an earlier run to continue it; UsageError if configuration or seed differ."""
        path = path.resolve()
        facts = recorded(path)
        asked = {"workflow": workflow, "configuration": plain(configuration), "seed": seed}
        if facts["workflow"] != workflow:
            raise UsageError(
                f"{str(path)!r} is a run of {facts['workflow']!r}, not of {workflow!r}: resume it with that"
            )
        if differences := [
            text for key in ("configuration", "seed") for text in differing(facts[key], asked[key], key)
        ]:
            earlier, ours = facts.get("versions", {}).get("code"), installed()["code"]
            if earlier not in (None, ours):
                raise UsageError(
                    f"{str(path)!r} was written by other code of quatrain ({earlier}, here {ours}), whose settings "
                    "differ: start a new run, or resume it with that code"
                )
            raise UsageError(
                f"{str(path)!r} has other settings: {'; '.join(differences)}. Start a new run, or repeat its flags"
            )
        earlier = [*facts.get("resumed", []), {key: facts.get(key) for key in ("command", "driver", "site")}]
        try:
            for name in FOLDERS:
                (path / name).mkdir(exist_ok=True)
            return cls(path, {**asked, **_circumstances(placement, command), "resumed": earlier}, resumed=True)
        except OSError as error:
            raise UsageError(f"run folder {str(path)!r} cannot be written: {error.strerror}") from error

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.path / "logs"

    @property
    def seconds(self) -> float:
        """Seconds of work so far, including those before a resume."""
        return self._before_s + time.monotonic() - self._started

    def event(
        self, state: str, *, task: str | None = None, node: str = "", tries: int = 0, message: str = "", at: float = 0.0
    ) -> None:
        """Append one line to events.jsonl; `at` is a Unix time, now when it is 0."""
        line = {
            "time": _utc(at or time.time()),
            "task": task,
            "state": state,
            "node": node,
            "try": tries,
            "message": message,
        }
        self._events.append(line)

    def beat(self) -> None:
        """Touch the heartbeat file, which shows every computer with access to the folder that the driver runs."""
        if time.monotonic() - self._beaten >= BEAT_S:
            (self.path / HEARTBEAT).touch()
            self._beaten = time.monotonic()

    def note(self, message: str) -> None:
        """Append a note of the workflow to events.jsonl."""
        self.event("note", message=message)

    def summarise(self, **fields: Any) -> None:
        """Merge fields into summary.json, at once."""
        self._summary.update(plain(fields))
        self._write_summary("running")

    def _write_summary(self, state: str) -> None:
        head = {"workflow": self.workflow, "state": state, "seconds": round(self.seconds, 3), "seed": self.seed}
        write_json(self.path / "summary.json", {**head, **{k: v for k, v in self._summary.items() if k not in head}})

    def __enter__(self) -> Run:
        for number in heeded(CAUGHT):
            self._handlers[number] = signal.signal(number, _terminate)
        self._forget_the_end()
        self._write_summary("running")
        self._beaten = 0.0
        self.beat()
        self.event("resumed" if self.resumed else "started", message=f"driver {socket.gethostname()} {os.getpid()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = ending(error)
        try:
            if _is_requeued(error):
                self._summary["requeued"] = True
            if error is not None:
                self._record(state, error)
            self.event(state, message=one_line(error))
            self._write_summary(state)
            self._events.close()
        except OSError as trouble:  # a full disk: say it, but do not hide what ended the run
            if error is None:
                raise
            print(f"quatrain: {self.path} could not be brought up to date: {trouble.strerror}", file=sys.stderr)
        finally:
            os.close(self._lock)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Close the folder after the block, which submits the job that will open it; an error fails the run."""
        self._forget_the_end()
        self._write_summary("queued")
        try:
            yield
        except BaseException as error:
            self._record(ending(error), error)
            self.event(ending(error), message=one_line(error))
            self._write_summary(ending(error))
            raise
        finally:
            self._events.close()
            os.close(self._lock)

    def _forget_the_end(self) -> None:
        """Remove from the summary how an earlier driver ended."""
        for name in ("error", "requeued"):
            self._summary.pop(name, None)

    def _record(self, state: str, error: BaseException) -> None:
        if state == "failed":
            self._summary["error"] = one_line(error)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        write_text(self.logs / f"driver-{_utc(time.time()).replace(':', '')}.log", text)


def ending(error: BaseException | None) -> str:
    """Return the state that a run ends in when its driver ends by `error`."""
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt | Terminated | BrokenPipeError) else "failed"


def _is_requeued(error: BaseException | None) -> bool:
    """Return whether Slurm starts this driver again."""
    return isinstance(error, Terminated) and error.code == 128 + signal.SIGUSR1 and bool(os.environ.get(REQUEUED))


def one_line(error: BaseException | None) -> str:
    """Return an exception as one line of text: its message for our own kinds, with its type for others."""
    if error is None:
        return ""
    if isinstance(error, Terminated):
        return f"ended by {signal.Signals(int(error.code or 128) - 128).name}"
    text = " ".join(str(error).split())
    return text if isinstance(error, UsageError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def recorded(path: Path) -> dict[str, Any]:
    """Return run.json of a run folder; UsageError if it is not a run folder."""
    try:
        facts = read_json(path / "run.json")
    except FileNotFoundError:
        what = "holds no run.json" if path.is_dir() else "is not a folder"
        raise UsageError(f"{str(path)!r} is not a run folder, it {what}: give a folder such as runs/nas-...") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{str(path / 'run.json')!r} cannot be read: {error}") from error
    if not isinstance(facts, dict) or not {"workflow", "configuration", "seed"} <= facts.keys():
        raise UsageError(f"{str(path / 'run.json')!r} is not the record of a run")
    return facts


def differing(there: Any, here: Any, name: str) -> list[str]:
    """Return `name is A there, B here` for each leaf in which two plain values differ."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = sorted(there.keys() | here.keys())
        inner = [(key, there.get(key), here.get(key)) for key in keys]
        return [
            text for key, a, b in inner for text in differing(a, b, key if name == "configuration" else f"{name}.{key}")
        ]
    return [] if there == here else [f"{name} is {there!r} there, {here!r} here"]


def _check_spelling(root: Path) -> None:
    """Raise UsageError for a path that a shell would split, because Parsl passes it to a shell unquoted."""
    if strange := re.search(r"[^\w./@%+=:,-]", str(root.resolve())):
        raise UsageError(
            f"run folders cannot lie in {str(root.resolve())!r}, because of the {strange[0]!r} in its path;"
            " take another with --run-root"
        )


def _new_folder(root: Path, workflow: str, digest: str) -> Path:
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    stem = f"{workflow}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{digest}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        try:
            (root / (stem + suffix)).mkdir()
        except FileExistsError:
            continue
        return root / (stem + suffix)
    raise UsageError(f"a hundred runs began in {str(root)!r} within one second: wait one, or take another --run-root")


def _circumstances(placement: Placement | None, command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": list(command),
        "site": plain(placement.facts) if placement is not None else None,
        "request": plain(placement.request) if placement is not None else None,
        "versions": installed(),
        "git": git_commit(),
        "driver": {"host": socket.gethostname(), "pid": os.getpid(), "started": _utc(time.time())},
    }


def _previous_summary(path: Path) -> dict[str, Any]:
    try:
        summary = read_json(path / "summary.json")
    except (FileNotFoundError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _lock(path: Path, patience_s: float) -> int:
    """Lock the folder for this driver; UsageError if another driver still holds the lock after `patience_s`."""
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            os.close(descriptor)
            raise UsageError(f"{str(path)!r} is in use by a running driver: wait for it, or end it first") from None
        except OSError:  # a file system without locks: continue without one
            return descriptor
        return descriptor


def heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Return the signals that this process does not ignore; nohup, for instance, ignores SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
