from __future__ import annotations

import pytest
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.errors import SubmitException

from quatrain.errors import UsageError
from quatrain.hpc import catalog
from quatrain.hpc.config import slurm_settings
from quatrain.hpc.dry_run import Preview
from quatrain.hpc.jobs import SlurmJobs, judge, refusal
from quatrain.hpc.remote import TaskError
from quatrain.hpc.site import Request


class Pool:
    """What `judge` sees of an executor."""

    label = "gpu"
    bad_state_is_set = False
    reason = None

    def set_bad_state_and_fail_all(self, reason):
        self.bad_state_is_set, self.reason = True, reason


def judged(*states, **facts):
    pool = Pool()
    judge(pool, {str(number): JobStatus(state, **facts) for number, state in enumerate(states)})
    return pool.reason


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("sbatch: error: Batch job submission failed: Invalid feature specification\n", "--constraint"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "--nodes"),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing)",
            "--walltime",
        ),
        ("sbatch: error: invalid partition specified: cpu", "--partition"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "--account",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "--qos"),
        ("sbatch: error: Invalid generic resource (gres) specification", "--gpus-per-node"),
    ],
)
def test_a_refusal_is_told_in_the_schedulers_words_with_what_to_change(said, change):
    text = refusal(said)

    assert said.strip().rpartition("error: ")[2] in text
    assert f"; change {change}" in text
    assert "\n" not in text


def test_an_unknown_refusal_is_told_without_advice():
    assert refusal("sbatch: error: the moon is full") == "Slurm refused the job: the moon is full"
    assert refusal("") == "Slurm refused the job: no reason was given"


def test_the_scheduler_is_asked_as_rarely_as_the_site_wants(monkeypatch):
    monkeypatch.setattr(SlurmJobs, "execute_wait", Preview.execute_wait)
    jobs = SlurmJobs(**slurm_settings(catalog.find("perlmutter"), Request(account="m1_g"), "gpu"))
    jobs.poll_s = 7

    assert jobs.status_polling_interval == 7


def test_a_refused_submission_raises_a_usage_error(monkeypatch):
    def refuse(*_arguments):
        raise SubmitException("block", "failed", stderr="sbatch: error: Invalid feature specification")

    monkeypatch.setattr(SlurmJobs, "execute_wait", Preview.execute_wait)
    jobs = SlurmJobs(**slurm_settings(catalog.find("slurm"), Request(), "gpu"))
    monkeypatch.setattr("parsl.providers.SlurmProvider.submit", refuse)

    with pytest.raises(UsageError, match="Invalid feature specification; change --constraint"):
        jobs.submit("true", 1)


def test_a_refused_block_ends_the_executor_at_once():
    reason = judged(JobState.COMPLETED, JobState.FAILED, message="Failed to start block 1: Slurm refused the job: no")

    assert isinstance(reason, UsageError)
    assert str(reason) == "Slurm refused the job: no"


def test_a_first_job_without_workers_shows_the_end_of_its_log(tmp_path):
    (tmp_path / "stderr").write_text("\n".join(f"line {number}" for number in range(40)))

    reason = judged(JobState.MISSING, stderr_path=str(tmp_path / "stderr"))

    assert isinstance(reason, TaskError)
    assert "line 39" in str(reason)
    assert "line 9\n" not in str(reason)


def test_later_jobs_may_fail_to_start_now_and_then_but_not_three_times_in_a_row():
    worked, missing = JobState.CANCELLED, JobState.MISSING

    assert judged(worked, missing) is None
    assert judged(worked, missing, missing, worked) is None
    assert judged(worked, missing, missing, missing) is not None


def test_a_job_that_ends_after_its_workers_came_is_no_reason_to_give_up():
    assert judged(JobState.FAILED) is None
    assert judged(JobState.TIMEOUT, JobState.CANCELLED) is None
    assert judged() is None
