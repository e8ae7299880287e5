from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.errors import SubmitException

from quatrain.errors import UsageError
from quatrain.hpc import site_registry
from quatrain.hpc.config import slurm_settings
from quatrain.hpc.dry_run import Preview
from quatrain.hpc.placement import place
from quatrain.hpc.site import Request
from quatrain.hpc.slurm_provider import MOST_NOT_TAKEN, MOST_UNKNOWN, NOT_TAKEN, NotTaken, SlurmJobs, judge, refusal
from quatrain.hpc.worker import TaskError


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
def test_a_refusal_is_reported_in_the_schedulers_words_with_what_to_change(said, change):
    text = refusal(said)

    assert said.strip().rpartition("error: ")[2] in text
    assert f"; change {change}" in text
    assert "\n" not in text


def test_an_unknown_refusal_is_reported_without_advice():
    assert refusal("sbatch: error: the moon is full") == "Slurm refused the job: the moon is full"
    assert refusal("") == "Slurm refused the job: no reason was given"


def test_the_scheduler_is_asked_as_rarely_as_the_site_wants(monkeypatch):
    monkeypatch.setattr(SlurmJobs, "execute_wait", Preview.execute_wait)
    jobs = SlurmJobs(**slurm_settings(place(site_registry.find("perlmutter"), Request(account="m1_g")), "gpu"))
    jobs.poll_s = 7

    assert jobs.status_polling_interval == 7


def test_a_refused_submission_raises_a_usage_error(monkeypatch):
    def refuse(*_arguments):
        raise SubmitException("block", "failed", stderr="sbatch: error: Invalid feature specification")

    monkeypatch.setattr(SlurmJobs, "execute_wait", Preview.execute_wait)
    jobs = SlurmJobs(**slurm_settings(place(site_registry.find("slurm"), Request()), "gpu"))
    monkeypatch.setattr("parsl.providers.SlurmProvider.submit", refuse)

    with pytest.raises(UsageError, match="Invalid feature specification; change --constraint"):
        jobs.submit("true", 1)


class Slurm(SlurmJobs):
    """Jobs of a Slurm whose commands answer what a test wants, one after the other."""

    def __init__(self, folder):
        self.answers = [(1, "", "sacct is off")]
        super().__init__(**slurm_settings(place(site_registry.find("slurm"), Request()), "gpu"))
        self.script_dir, self.reported = str(folder), []
        self.report = self.reported.append

    def execute_wait(self, *_asked):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


TAKEN = (0, "Submitted batch job 17", "")
TROUBLE = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.mark.parametrize(
    "answer",
    [
        (1, "", TROUBLE),
        (1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"),
        subprocess.TimeoutExpired("sbatch", 60),
    ],
)
def test_a_scheduler_in_trouble_is_given_time_and_asked_again(tmp_path, monkeypatch, answer):
    now = [1000.0]
    monkeypatch.setattr("quatrain.hpc.slurm_provider.time.monotonic", lambda: now[0])
    slurm = Slurm(tmp_path)
    slurm.answers = [answer, answer, TAKEN]

    for pause_s in (2, 4):
        assert slurm.max_blocks == 1
        with pytest.raises(NotTaken, match="Slurm did not take the job: "):
            slurm.submit("true", 1)
        assert f"next try in {pause_s} s" in slurm.reported[-1]
        assert slurm.max_blocks == 0  # so that Parsl asks for none
        now[0] += pause_s

    assert slurm.submit("true", 1) == "17"
    assert (slurm.max_blocks, len(slurm.reported)) == (1, 2)


def test_some_jobs_that_slurm_did_not_take_are_no_reason_to_give_up_and_many_in_a_row_are():
    worked, not_taken = JobStatus(JobState.CANCELLED), f"Failed to start block 1: {NOT_TAKEN}: Socket timed out"
    for before in ([], [worked]):
        few = Pool()
        judge(few, numbered([*before, *lost(not_taken, MOST_NOT_TAKEN - 1)]))
        assert few.reason is None
        many = Pool()
        judge(many, numbered([*before, *lost(not_taken, MOST_NOT_TAKEN)]))
        assert isinstance(many.reason, TaskError)
        assert "at 6 tries: Socket timed out; continue with --resume" in str(many.reason)


def lost(message, count):
    """Submissions that failed, as Parsl counts them."""
    return [JobStatus(JobState.MISSING, message=message) for _ in range(count)]


def numbered(blocks):
    return {str(number): block for number, block in enumerate(blocks)}


def test_a_first_job_without_workers_ends_the_run_after_one_that_was_not_taken():
    pool = Pool()

    judge(pool, numbered([*lost(f"Failed to start block 0: {NOT_TAKEN}: busy", 1), JobStatus(JobState.MISSING)]))

    assert "ended before a worker connected" in str(pool.reason)


def test_a_job_that_the_scheduler_does_not_know_yet_is_waited_for(tmp_path):
    slurm = Slurm(tmp_path)
    slurm.answers = [TAKEN, (0, "", ""), (0, "17 R", "")]
    job = slurm.submit("true", 1)

    assert [status.state for status in slurm.status([job])] == [JobState.PENDING]
    assert slurm.reported == ["the scheduler does not know job 17 yet"]
    assert [status.state for status in slurm.status([job])] == [JobState.RUNNING]


def test_a_job_that_the_scheduler_never_knows_has_ended(tmp_path):
    slurm = Slurm(tmp_path)
    slurm.answers = [TAKEN, *[(0, "", "")] * MOST_UNKNOWN]
    job = slurm.submit("true", 1)

    states = [slurm.status([job])[0].state for _ in range(MOST_UNKNOWN)]

    assert states == [JobState.PENDING] * (MOST_UNKNOWN - 1) + [JobState.COMPLETED]


def test_a_job_that_ran_and_left_the_queue_has_ended_at_once(tmp_path):
    slurm = Slurm(tmp_path)
    slurm.answers = [TAKEN, (0, "", "")]
    job = slurm.submit("true", 1)
    Path(slurm.resources[job]["job_stdout_path"]).touch()

    assert slurm.status([job])[0].state is JobState.COMPLETED
    assert not slurm.reported


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


def test_an_allocation_that_was_taken_back_is_reported_as_such(tmp_path):
    (tmp_path / "stderr").write_text("srun: error: Unable to create step for job 1: Job/step already completing\n")

    reason = judged(JobState.MISSING, stderr_path=str(tmp_path / "stderr"))

    assert str(reason).startswith("the allocation around this run is over (srun: error: Unable to create step")
    assert str(reason).endswith("continue with --resume in a new one")


def test_later_jobs_may_fail_to_start_now_and_then_but_not_three_times_in_a_row():
    worked, missing = JobState.CANCELLED, JobState.MISSING

    assert judged(worked, missing) is None
    assert judged(worked, missing, missing, worked) is None
    assert judged(worked, missing, missing, missing) is not None


def test_a_job_that_ends_after_its_workers_came_is_no_reason_to_give_up():
    assert judged(JobState.FAILED) is None
    assert judged(JobState.TIMEOUT, JobState.CANCELLED) is None
    assert judged() is None
