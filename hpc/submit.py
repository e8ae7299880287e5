"""`quatrain submit WORKFLOW ...`: runs the driver itself in a job, which is queued again when its walltime ends.

The run folder is created first and the job resumes it, so every start of the job runs the same command. Some minutes
before the walltime Slurm sends SIGUSR1 to the batch script. The driver then stops its tasks in order; trained state is
kept in checkpoints. The script then requeues the same job.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from quatrain.errors import UsageError
from quatrain.files import write_text
from quatrain.hpc.allocation import GRACE, JOB_ID, RESTARTS, Allocation
from quatrain.hpc.config import slurm_settings
from quatrain.hpc.limits import grace_s
from quatrain.hpc.placement import Placement, place
from quatrain.hpc.run import REQUEUED
from quatrain.hpc.site import Site
from quatrain.hpc.slurm_provider import refusal

MOST_RESTARTS = 50
"""Restarts after which an unfinished run is not queued again, so that its user looks at it."""
REQUEUE_CODE = 138
"""Exit code of a driver that SIGUSR1 ended, as a shell reports it."""

SCRIPT = """\
#!/bin/bash
{directives}

# Slurm sends USR1 some minutes before the walltime: the driver stops in order, and this job goes back into the queue.
export {grace}={grace_s}
export {requeued}=$([ "${{{restarts}:-0}}" -lt {most} ] && echo 1)
{command} &
driver=$!
asked=
trap 'asked=1; kill -USR1 "$driver" 2>/dev/null' USR1
trap 'kill -TERM "$driver" 2>/dev/null' TERM
wait "$driver"; code=$?
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; code=$?; done
if [ -n "$asked" ] && [ "$code" -eq {requeue} ] && [ -n "${requeued}" ]; then
  exec scontrol requeue "${job}"
fi
exit "$code"
"""


def job_script(placement: Placement, workflow: str, run_dir: Path) -> str:
    """Return the batch script that starts and resumes the driver of a run folder."""
    return SCRIPT.format(
        directives="\n".join(f"#SBATCH {option}" for option in directives(placement, workflow, run_dir)),
        command=shlex.join(_command(workflow, run_dir)),
        requeue=REQUEUE_CODE,
        most=MOST_RESTARTS,
        restarts=RESTARTS,
        requeued=REQUEUED,
        grace=GRACE,
        grace_s=grace_s(placement.request),
        job=JOB_ID,
    )


def _command(workflow: str, run_dir: Path) -> list[str]:
    return [sys.executable, "-m", "quatrain.workflows", workflow, "--resume", str(run_dir)]


def directives(placement: Placement, workflow: str, run_dir: Path) -> list[str]:
    """Return the options of the job: those of a block of the site, and those that allow a requeue."""
    request = placement.request
    asked = slurm_settings(placement, "gpu", run_dir)
    named = {
        "job-name": f"quatrain-{workflow}",
        "output": f"{run_dir}/logs/job-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{grace_s(request)}",
        "nodes": request.nodes,
        "time": request.walltime_min,
        "ntasks-per-node": 1,
        "cpus-per-task": asked["cores_per_node"],
        "gpus-per-node": asked["gpus_per_node"],
        **{name: asked[name] for name in ("partition", "account", "qos", "constraint")},
    }
    options = [f"--{name}={value}" for name, value in named.items() if value is not None]
    further = [line.removeprefix("#SBATCH ") for line in asked["scheduler_options"].splitlines()]
    return [*options, "--requeue", *(["--exclusive"] if asked["exclusive"] else []), *further]


def inside_own_job(placement: Placement) -> Placement:
    """Return the placement that the driver will have in its own job, with names for nodes that are not known yet."""
    request = placement.request
    job = Allocation(
        job_id="JOB",
        nodes=tuple(f"NODE{number}" for number in range(1, request.nodes + 1)),
        end_time_s=time.time() + request.walltime_min * 60,
        grace_s=grace_s(request),
    )
    return place(placement.facts, request, job, placement.mounts)


def submit(placement: Placement, workflow: str, run_dir: Path) -> str:
    """Write RUN_DIR/job.sh, submit it with sbatch and return the job id; UsageError if sbatch refuses it."""
    path = run_dir / "job.sh"
    write_text(path, job_script(placement, workflow, run_dir))
    command = shutil.which("sbatch")
    if command is None:
        raise UsageError(
            f"there is no sbatch here to submit {path}: start this on a login node of {placement.site.name}"
        )
    done = subprocess.run([command, "--parsable", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(refusal(done.stderr or done.stdout))
    return done.stdout.strip().partition(";")[0]


def check(site: Site) -> None:
    """Raise UsageError if the site cannot run a driver in a job."""
    if site.scheduler != "slurm":
        raise UsageError(
            f"site {site.name!r} has no queue to submit to: start the workflow itself, or take another --site"
        )
