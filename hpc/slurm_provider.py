"""Blocks of nodes as Slurm jobs: asked after as often as the site allows, refusals in the scheduler's own words."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import SlurmProvider
from parsl.providers.errors import SubmitException

from quatrain.errors import UsageError
from quatrain.hpc.worker import MachineError

TAIL_LINES = 20
REFUSED = "Failed to start block"
"""How Parsl begins the message of a block that could not be submitted."""
NOT_TAKEN = "Slurm did not take the job"
"""How the message of a block begins that Slurm may take at another try."""
MOST_ABSENT = 3
MOST_NOT_TAKEN = 6
"""Submissions in a row that Slurm does not take, about a minute, before a run gives up."""
MOST_UNKNOWN = 3
"""Looks in a row at which the scheduler may not know a job that it has taken."""
FIRST_PAUSE_S = 2.0

OVER = re.compile(r"unable to (create step|confirm allocation) for job \d+|invalid job id", re.IGNORECASE)
"""Words of srun's in an allocation that was taken back."""

PASSING = re.compile(
    r"timed out|temporarily|try again|unable to contact|not responding|connection (refused|reset|failure)"
    r"|zero bytes were transmitted|unexpected message|authentication error|expired credential",
    re.IGNORECASE,
)
"""Words of sbatch's that speak of its controller's state and not of the job."""

ADVICE: tuple[tuple[str, str], ...] = (
    (r"feature", "--constraint (`sinfo -o %f` lists the features)"),
    (r"account", "--account or --partition (`sacctmgr show associations user=$USER` lists the accounts)"),
    (r"partition", "--partition (`sinfo -s` lists them)"),
    (r"time limit", "--walltime (`sinfo -o '%P %l'` tells the limits)"),
    (r"qos", "--qos, --nodes or --walltime (`quatrain sites` tells the limits)"),
    (r"gres|gpu", "--gpus-per-node (`sinfo -o %G` tells what nodes have)"),
    (r"node count|node configuration|more processors|cpu count", "--nodes, --gpus-per-node or --constraint"),
)
"""From words of sbatch's refusals to what to change; the first that fits counts."""


class SlurmJobs(SlurmProvider):
    """Parsl's provider, with the site's own pause between two questions, and patience with a scheduler in trouble."""

    poll_s: int = 60
    tell: Callable[[str], None] = staticmethod(lambda _text: None)
    """Told of each trouble that is tolerated."""
    _pause_until = 0.0
    _not_taken = 0

    @property
    def max_blocks(self) -> int:
        """Jobs in the queue at a time; none while Slurm is given time to come back."""
        return 0 if time.monotonic() < self._pause_until else self._max_blocks

    @max_blocks.setter
    def max_blocks(self, count: int) -> None:
        self._max_blocks = count

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two looks at the queue."""
        return self.poll_s

    def submit(self, command: str, tasks_per_node: int, job_name: str = "quatrain") -> str:
        """Submit a block and return its job's number; UsageError when sbatch refuses it, NotTaken when it may yet."""
        try:
            job = str(super().submit(command, tasks_per_node, job_name))
        except SubmitException as error:
            said = error.stderr or error.message
            if not PASSING.search(said):
                raise UsageError(refusal(said)) from error
            raise self._trouble(said) from error
        except subprocess.TimeoutExpired as error:
            raise self._trouble(f"sbatch gave no answer within {error.timeout:.0f} s") from error
        self._not_taken = 0
        return job

    def _trouble(self, said: str) -> NotTaken:
        """Leave Slurm alone for a while, each time for twice as long."""
        pause_s = FIRST_PAUSE_S * 2**self._not_taken
        self._not_taken += 1
        self._pause_until = time.monotonic() + pause_s
        self.tell(f"{NOT_TAKEN}, next try in {pause_s:.0f} s: {_words(said)}")
        return NotTaken(f"{NOT_TAKEN}: {_words(said)}")

    def _status(self) -> None:
        """Ask the scheduler; a job that it does not know and that left no trace is taken for one that it will know."""
        alive = [job for job, facts in self.resources.items() if not facts["status"].terminal]
        SlurmProvider._status(self)
        for job in alive:
            facts = self.resources[job]
            if facts["status"].state is not JobState.COMPLETED or Path(facts["job_stdout_path"]).exists():
                self._unknown.pop(job, None)
                continue
            self._unknown[job] += 1
            if self._unknown[job] < MOST_UNKNOWN:
                facts["status"] = JobStatus(JobState.PENDING)
                self.tell(f"the scheduler does not know job {job} yet")

    @cached_property
    def _unknown(self) -> Counter[object]:
        """How often the scheduler did not know a job."""
        return Counter()


class NotTaken(Exception):  # noqa: N818 - what happened, and no fault of the job's
    """Slurm did not take a job, for reasons that pass."""


def refusal(said: str) -> str:
    """Return what sbatch said in one line, with what to change."""
    words = _words(said)
    change = next((advice for pattern, advice in ADVICE if re.search(pattern, words, re.IGNORECASE)), "")
    return f"Slurm refused the job: {words}" + (f"; change {change}" if change else "")


def _words(said: str) -> str:
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    return "; ".join(lines) or "no reason was given"


def judge(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """End an executor whose job is refused, or of whose jobs no worker ever came; Parsl asks after each poll.

    One job without workers is enough where none had any before, three in a row otherwise. A submission that Slurm may
    take at another try is no job.
    """
    blocks = [status[block] for block in sorted(status, key=int)]
    if not blocks or executor.bad_state_is_set:
        return
    given_up = len(blocks) >= MOST_NOT_TAKEN and all(map(_not_taken, blocks[-MOST_NOT_TAKEN:]))
    refused = (blocks[-1].message or "").startswith(REFUSED) and not _not_taken(blocks[-1])
    absent = [block.state is JobState.MISSING for block in blocks if not _not_taken(block)]
    none_came = bool(absent) and (all(absent) or (len(absent) >= MOST_ABSENT and all(absent[-MOST_ABSENT:])))
    if refused or given_up or (none_came and not _not_taken(blocks[-1])):
        executor.set_bad_state_and_fail_all(_reason(executor.label, blocks[-1]))


def _not_taken(block: JobStatus) -> bool:
    return re.match(rf"{REFUSED} \d+: {NOT_TAKEN}", block.message or "") is not None


def _reason(label: str, block: JobStatus) -> Exception:
    message = block.message or ""
    if _not_taken(block):
        why = re.sub(rf"^{REFUSED} \d+: {NOT_TAKEN}: ", "", message)
        return MachineError(f"{NOT_TAKEN} at {MOST_NOT_TAKEN} tries: {why}; go on with --resume when it answers again")
    if message.startswith(REFUSED):
        return UsageError(re.sub(rf"^{REFUSED} \d+: ", "", message))
    said = (block.stderr or block.stdout or "nothing was written").strip().splitlines()[-TAIL_LINES:]
    if over := [line for line in said if OVER.search(line)]:
        return MachineError(f"the allocation around this run is over ({over[-1]}): go on with --resume in a new one")
    return MachineError(
        "\n".join([f"a job for shape {label} ended before a worker of it came; the end of its log:", *said])
    )
