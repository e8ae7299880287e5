"""Command line of a workflow: flags from configuration dataclasses, and one-line errors."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from quatrain.errors import UsageError, unknown, unwritable
from quatrain.files import fingerprint, plain
from quatrain.hpc import container, limits, site_registry
from quatrain.hpc.flags import deprecated_flags, parse_flags, replace_deprecated
from quatrain.hpc.placement import Placement, find_placement
from quatrain.hpc.plan import Step
from quatrain.hpc.site import Request, Shape, minutes
from quatrain.hpc.worker import TaskError

if TYPE_CHECKING:
    from quatrain.hpc.apps import Workers
    from quatrain.hpc.progress import View
    from quatrain.hpc.run import Run

SWITCHES = ("--dry-run", "--submit")
"""Flags of Common that no value follows and that a resumed run does not take over."""


INPUTS_FAILED = 3
EXIT_CODES = """exit codes: 0 done; 1 the run, the machine or every input failed; 2 a mistake in flags or inputs,
or a broken limit; 3 done, but some inputs failed; 128 + N ended by signal N (130: Ctrl-C)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Common:
    """The flags of every workflow."""

    site: str = "local"
    """The machine: a name from `quatrain sites`, or a file such as ./mine.py."""
    account: str | None = None
    """The account to charge, on sites that need one."""
    nodes: int = 1
    """Nodes of a job."""
    walltime: str = "30"
    """Time of a job: minutes, HH:MM:SS or D-HH:MM:SS."""
    qos: str | None = None
    """Quality of service; the site's own default when left out."""
    partition: str | None = None
    """Slurm partition."""
    constraint: str | None = None
    """Node features, in place of the site's."""
    gpus_per_node: int | None = None
    """GPUs of a node, in place of the site's."""
    image: str | None = None
    """Container image, on sites whose workers run in one."""
    unchecked: bool = False
    """Leave the limits of a qos to Slurm: for one that the site does not know, or that has changed."""
    monitoring: bool = False
    """Also let Parsl's own monitoring record tasks and resources in the run folder's parsl/monitoring.db (slower)."""
    no_allocation: bool = False
    """Submit jobs even from inside an allocation, which is otherwise used as it is."""
    run_root: Path = Path("runs")
    """The folder in which the run folder is created."""
    resume: Path | None = None
    """The folder of an earlier run to continue; its flags need not be repeated."""
    dry_run: bool = False
    """Print what would run and stop."""
    submit: bool = False
    """Run this command itself in a job, which is queued again when its walltime ends (`quatrain submit`)."""
    seed: int = 0
    """Seed of every random number."""

    @property
    def request(self) -> Request:
        """What the flags request from the site."""
        same = (
            "account",
            "nodes",
            "qos",
            "partition",
            "constraint",
            "gpus_per_node",
            "image",
            "unchecked",
            "monitoring",
        )
        asked = {name: getattr(self, name) for name in same}
        return Request(walltime_min=minutes(self.walltime), allocation=not self.no_allocation, **asked)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """One of the package's workflows, as the command line sees it."""

    name: str
    description: str
    presets: Mapping[str, Callable[[], Any]]
    """Functions that return a configuration, by name; the first is the default."""
    plan: Callable[[Any], Sequence[Step]]
    """Returns the steps that a configuration would run."""
    work: Callable[[Any, Session], int | None]
    """Function that does the work; returns how many inputs failed although the run is done (exit code 3)."""
    check: Callable[[Any], None] | None = None
    """Raises UsageError for inputs that are known to be wrong before a run folder is created."""
    fits: Callable[[Any, int], None] | None = None
    """Raises UsageError for what cannot be spread over so many nodes."""
    report: Callable[[Path], Path] | None = None
    """Writes the report of a run folder once the run is done, and returns its path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What a workflow works with: its run folder, its workers, and the view of its progress."""

    run: Run
    show: View
    pool: Workers

    @property
    def seed(self) -> int:
        """The seed that the user gave."""
        return self.run.seed

    def app(
        self, body: Callable[..., Any], *, shape: Shape, name: str = "", remember: bool = True
    ) -> Callable[..., Future[Any]]:
        """Return a function that starts `body` on a worker; see Workers.app."""
        return self.pool.app(body, shape=shape, name=name, remember=remember)

    def workers(self, shape: Shape) -> int:
        """Return how many tasks of a shape run at once."""
        return self.pool.count(shape)


def main(workflow: Workflow, arguments: Sequence[str] | None = None) -> int:
    """Run a workflow with command-line arguments (sys.argv without any given) and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _main(workflow, given))


def guarded(work: Callable[[], None]) -> int:
    """Call `work` and return its exit code; EXIT_CODES lists them.

    If the reader of the output has ended, as with `| head`, it prints nothing and returns the code of SIGPIPE.
    """
    try:
        code = _code(work)
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # an output that is not a file has nothing left to flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


def _code(work: Callable[[], None]) -> int:
    try:
        work()
    except (UsageError, ValueError) as error:
        return _complain(str(error), 2)
    except TaskError as error:
        return _complain(str(error), 1)
    except OSError as error:
        mistake = unwritable(error)
        if mistake is None:
            raise
        return _complain(str(mistake), 2)
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    return 0


def _complain(text: str, code: int) -> int:
    lines = text.strip().splitlines() or ["failed with no message"]
    print(f"quatrain: {' '.join(lines) if code == 2 else text.strip()}", file=sys.stderr)
    return code


def _main(workflow: Workflow, given: list[str]) -> None:
    configuration, common = parse(workflow, given)
    if common.resume is not None:
        from quatrain.hpc.run import recorded

        earlier = recorded(common.resume)
        given = [
            *_without(earlier.get("command", []), "--resume", "--dry-run", "--submit"),
            *_without(given, "--resume"),
        ]
        resume = common.resume
        configuration, common = parse(workflow, given)
        common = dataclasses.replace(common, resume=resume)
    folders = [common.run_root if common.resume is None else common.resume.parent]
    site = site_registry.find(common.site)
    mounts = container.mounts(site, configuration, folders)
    placement = find_placement(site, common.request, mounts, own_job=common.submit)
    asked = _Asked(workflow, configuration, common, placement, tuple(workflow.plan(configuration)), given)
    if common.submit:
        from quatrain.hpc import submit

        submit.check(site)
    if workflow.fits is not None:
        workflow.fits(configuration, placement.nodes)
    if common.dry_run:
        _describe(asked)
        return
    if broken := limits.problems(placement, asked.plan, submitted=common.submit):
        raise UsageError("; ".join(broken))
    if workflow.check is not None and common.resume is None:
        workflow.check(configuration)
    if common.submit:
        _submit(asked)
    else:
        _work(asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One parsed command line, with the placement of its run."""

    workflow: Workflow
    configuration: Any
    common: Common
    placement: Placement
    plan: Sequence[Step]
    command: Sequence[str]

    def open_run(self) -> Run:
        """Create the run folder, or open the one to continue."""
        from quatrain.hpc.run import Run

        given: dict[str, Any] = {"seed": self.common.seed, "placement": self.placement, "command": self.command}
        if self.common.resume is not None:
            return Run.resume(self.common.resume, self.workflow.name, self.configuration, **given)
        return Run.create(self.workflow.name, self.configuration, root=self.common.run_root, **given)


def _describe(asked: _Asked) -> None:
    """Print what would run; UsageError after it if the run would break a limit."""
    from quatrain.hpc.dry_run import describe

    common, name = asked.common, asked.workflow.name
    digest = fingerprint({"configuration": plain(asked.configuration), "seed": common.seed})
    folder = (common.resume or common.run_root / f"{name}-TIME-{digest}").resolve()
    print(f"{name}: {asked.workflow.description}")
    print(describe(asked.placement, asked.plan, folder, submitted=name if common.submit else ""))
    if broken := limits.problems(asked.placement, asked.plan, submitted=common.submit):
        raise UsageError("; ".join(broken))


def _submit(asked: _Asked) -> None:
    """Create the run folder and submit the driver that will resume it."""
    from quatrain.hpc.submit import submit

    run = asked.open_run()
    print(f"run folder: {run.path}", flush=True)
    with run.handing_over():
        job = submit(asked.placement, asked.workflow.name, run.path)
        run.event("submitted", message=f"the driver waits in job {job}")
    print(f"job: {job}; `quatrain status {run.path}` shows its state")


def _work(asked: _Asked) -> None:
    from quatrain.hpc.apps import open_workers
    from quatrain.hpc.progress import progress

    run, workflow = asked.open_run(), asked.workflow
    print(f"run folder: {run.path}", flush=True)
    try:
        with run, progress(run) as show, open_workers(run, asked.placement, asked.plan) as pool:
            failed = workflow.work(asked.configuration, Session(run=run, show=show, pool=pool))
    except BaseException:
        print(f"quatrain: logs are in {run.logs}; continue with --resume {run.path}", file=sys.stderr)
        raise
    if workflow.report is not None:
        print(f"report: {workflow.report(run.path)}", flush=True)
    if failed:
        print(f"quatrain: {failed} inputs failed: see {run.path / 'summary.json'}", file=sys.stderr)
        raise SystemExit(INPUTS_FAILED)


def parse(workflow: Workflow, given: Sequence[str]) -> tuple[Any, Common]:
    """Return the configuration and the common flags of command-line arguments; UsageError for a mistake in them."""
    name, rest = _preset(workflow, given)
    configuration = workflow.presets[name]()
    kind = type(configuration)
    flags = _flags(workflow, kind)
    parsed = parse_flags(
        flags,
        replace_deprecated(rest, deprecated_flags(kind)),
        prog=f"quatrain {workflow.name}",
        description=f"{workflow.description}\n\n{EXIT_CODES}",
        default=flags(science=configuration, common=Common(), preset=name),
    )
    return parsed.science, parsed.common


def _flags(workflow: Workflow, science: type) -> Any:
    import tyro

    choices = ",".join(workflow.presets)
    preset = tyro.conf.arg(metavar=f"{{{choices}}}", help="The preset for all values that no flag gives.")
    fields: list[tuple[str, Any]] = [
        ("preset", Annotated[str, preset]),
        ("science", Annotated[science, tyro.conf.arg(name="")]),
        ("common", Annotated[Common, tyro.conf.arg(name="")]),
    ]
    return dataclasses.make_dataclass(workflow.name.capitalize(), fields, frozen=True, kw_only=True)


def _preset(workflow: Workflow, given: Sequence[str]) -> tuple[str, list[str]]:
    """Take --preset out of the arguments, because the other flags' defaults depend on it."""
    chosen, rest, words = next(iter(workflow.presets)), [], iter(given)
    for word in words:
        if word == "--preset":
            chosen = next(words, "")
        elif word.startswith("--preset="):
            chosen = word.partition("=")[2]
        else:
            rest.append(word)
    if chosen not in workflow.presets:
        raise unknown("preset", chosen, workflow.presets)
    return chosen, rest


def _without(words: Sequence[str], *flags: str) -> list[str]:
    """Return arguments without some flags and, except for SWITCHES, the values that follow them."""
    kept, skip = [], False
    for word in words:
        flag, equals, _ = word.partition("=")
        named = flag.replace("_", "-") in flags
        if skip:
            skip = False
        elif named:
            skip = not equals and flag.replace("_", "-") not in SWITCHES
        else:
            kept.append(word)
    return kept
