"""Blocks of nodes as Slurm jobs, with the site's polling interval and the scheduler's own error messages."""

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
"""Prefix of Parsl's message for a block that could not be submitted."""
NOT_TAKEN = "Slurm did not take the job"
"""Prefix of the message for a block that Slurm may accept at another try."""
MOST_ABSENT = 3
MOST_NOT_TAKEN = 6
"""Failed submissions in a row, about a minute, after which a run ends."""
MOST_UNKNOWN = 3
"""Polls in a row at which the scheduler may not know a job that it has accepted."""
FIRST_PAUSE_S = 2.0

OVER = re.compile(r"unable to (create step|confirm allocation) for job \d+|invalid job id", re.IGNORECASE)
"""Messages of srun in an allocation that has ended."""

PASSING = re.compile(
    r"timed out|temporarily|try again|unable to contact|not responding|connection (refused|reset|failure)"
    r"|zero bytes were transmitted|unexpected message|authentication error|expired credential",
    re.IGNORECASE,
)
"""Messages of sbatch about the state of its controller, not about the job."""

ADVICE: tuple[tuple[str, str], ...] = (
    (r"feature", "--constraint (`sinfo -o %f` lists the features)"),
    (r"account", "--account or --partition (`sacctmgr show associations user=$USER` lists the accounts)"),
    (r"partition", "--partition (`sinfo -s` lists them)"),
    (r"time limit", "--walltime (`sinfo -o '%P %l'` lists the limits)"),
    (r"qos", "--qos, --nodes or --walltime (`quatrain sites` lists the limits)"),
    (r"gres|gpu", "--gpus-per-node (`sinfo -o %G` lists the GPUs of nodes)"),
    (r"node count|node configuration|more processors|cpu count", "--nodes, --gpus-per-node or --constraint"),
)
"""Pairs of a pattern in sbatch's message and the flag to change; the first match counts."""


class SlurmJobs(SlurmProvider):
    """Parsl's provider, with the site's polling interval and retries for a scheduler that does not respond."""

    poll_s: int = 60
    report: Callable[[str], None] = staticmethod(lambda _text: None)
    """Called with a message for each tolerated failure of the scheduler."""
    _pause_until = 0.0
    _not_taken = 0

    @property
    def max_blocks(self) -> int:
        """Jobs in the queue at a time; 0 during the pause after a failed submission."""
        return 0 if time.monotonic() < self._pause_until else self._max_blocks

    @max_blocks.setter
    def max_blocks(self, count: int) -> None:
        self._max_blocks = count

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two polls of the queue."""
        return self.poll_s

    def submit(self, command: str, tasks_per_node: int, job_name: str = "quatrain") -> str:
        """Submit a block and return its job id; UsageError if sbatch refuses it, NotTaken if another try may work."""
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
        """Start a pause before the next submission, each time twice as long, and return the error."""
        pause_s = FIRST_PAUSE_S * 2**self._not_taken
        self._not_taken += 1
        self._pause_until = time.monotonic() + pause_s
        self.report(f"{NOT_TAKEN}, next try in {pause_s:.0f} s: {_words(said)}")
        return NotTaken(f"{NOT_TAKEN}: {_words(said)}")

    def _status(self) -> None:
        """Poll the scheduler; an unknown job without any output counts as pending for the first polls."""
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
                self.report(f"the scheduler does not know job {job} yet")

    @cached_property
    def _unknown(self) -> Counter[object]:
        """How often the scheduler did not know a job."""
        return Counter()


class NotTaken(Exception):  # noqa: N818 - an event, not an error of the job
    """Slurm did not accept a job, for a temporary reason."""


def refusal(said: str) -> str:
    """Return sbatch's message in one line, with the flag to change."""
    words = _words(said)
    change = next((advice for pattern, advice in ADVICE if re.search(pattern, words, re.IGNORECASE)), "")
    return f"Slurm refused the job: {words}" + (f"; change {change}" if change else "")


def _words(said: str) -> str:
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    return "; ".join(lines) or "no reason was given"


def judge(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """Fail an executor whose job is refused or whose jobs start no worker; Parsl calls this after each poll.

    One job without workers is enough if no earlier job had any, otherwise three in a row. A submission that Slurm may
    accept at another try does not count as a job.
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
        return MachineError(
            f"{NOT_TAKEN} at {MOST_NOT_TAKEN} tries: {why}; continue with --resume when it answers again"
        )
    if message.startswith(REFUSED):
        return UsageError(re.sub(rf"^{REFUSED} \d+: ", "", message))
    said = (block.stderr or block.stdout or "nothing was written").strip().splitlines()[-TAIL_LINES:]
    if over := [line for line in said if OVER.search(line)]:
        return MachineError(f"the allocation around this run is over ({over[-1]}): continue with --resume in a new one")
    return MachineError(
        "\n".join([f"a job for shape {label} ended before a worker connected; the end of its log:", *said])
    )
