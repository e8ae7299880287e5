"""Blocks of nodes as Slurm jobs: asked after as often as the site allows, refusals in the scheduler's own words."""

from __future__ import annotations

import re

from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import SlurmProvider
from parsl.providers.errors import SubmitException

from quatrain.errors import UsageError
from quatrain.hpc.remote import TaskError

TAIL_LINES = 20
REFUSED = "Failed to start block"
"""How Parsl begins the message of a block that could not be submitted."""
MOST_ABSENT = 3

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
    """Parsl's provider, with the site's own pause between two questions to the scheduler."""

    poll_s: int = 60

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two looks at the queue."""
        return self.poll_s

    def submit(self, command: str, tasks_per_node: int, job_name: str = "quatrain") -> str:
        """Submit a block and return its job's number; UsageError when sbatch refuses it."""
        try:
            return str(super().submit(command, tasks_per_node, job_name))
        except SubmitException as error:
            raise UsageError(refusal(error.stderr or error.message)) from error


def refusal(said: str) -> str:
    """Return what sbatch said in one line, with what to change."""
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    words = "; ".join(lines) or "no reason was given"
    change = next((advice for pattern, advice in ADVICE if re.search(pattern, words, re.IGNORECASE)), "")
    return f"Slurm refused the job: {words}" + (f"; change {change}" if change else "")


def judge(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """End an executor whose job is refused, or of whose jobs no worker ever came; Parsl asks after each poll.

    One job without workers is enough where none had any before, three in a row otherwise.
    """
    blocks = [status[block] for block in sorted(status, key=int)]
    if not blocks or executor.bad_state_is_set:
        return
    refused = (blocks[-1].message or "").startswith(REFUSED)
    absent = [block.state is JobState.MISSING for block in blocks]
    if refused or all(absent) or (len(absent) >= MOST_ABSENT and all(absent[-MOST_ABSENT:])):
        executor.set_bad_state_and_fail_all(_reason(executor.label, blocks[-1]))


def _reason(label: str, block: JobStatus) -> Exception:
    message = block.message or ""
    if message.startswith(REFUSED):
        return UsageError(re.sub(rf"^{REFUSED} \d+: ", "", message))
    said = (block.stderr or block.stdout or "nothing was written").strip().splitlines()[-TAIL_LINES:]
    return TaskError(
        "\n".join([f"a job for shape {label} ended before a worker of it came; the end of its log:", *said])
    )
