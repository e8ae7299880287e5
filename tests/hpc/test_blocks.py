from __future__ import annotations

import subprocess
import time

import pytest
from parsl.jobs.states import JobState, JobStatus

from quatrain.hpc.allocation import announcement
from quatrain.hpc.blocks import FILE, Block, BlockWatch, describe, gpu_hours, read


class Pool:
    """An executor with its blocks."""

    label = "gpu"

    def __init__(self, **states):
        self.blocks_to_job_id = {name.strip("b"): f"7{name}" for name in states}
        self.status_facade = {name.strip("b"): JobStatus(state) for name, state in states.items()}


def script(folder, number, shell="true", scheduled=True, nodes="nid[1-2]"):
    """Run what a block's script would, with its output where Parsl puts it."""
    place = folder / "submit_scripts"
    place.mkdir(parents=True, exist_ok=True)
    environment = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": nodes, "PATH": "/usr/bin:/bin"}
    with (place / f"parsl.gpu.block-{number}.12.5.stdout").open("w") as sink:
        lines = "\n".join([*announcement(scheduled), shell])
        subprocess.run(["bash", "-c", lines], stdout=sink, env=environment, check=False)


@pytest.fixture
def watch(tmp_path):
    made = BlockWatch(
        run_dir=tmp_path, folder=tmp_path / "parsl" / "000", walltime_s=600.0, end_s=None, gpus_per_node=4
    )
    yield made
    made.close()


def test_a_block_is_followed_from_the_queue_to_its_end(watch, tmp_path):
    assert [describe(block) for block in watch.look([Pool(b0=JobState.PENDING)])] == ["block gpu 0 queued, job 7b0"]
    assert watch.look([Pool(b0=JobState.PENDING)]) == []

    script(watch.folder, 0, "exit 3")
    (block,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert (block.job, block.nodes, block.gpus, block.how) == ("17", ("nid1", "nid2"), 8, "ended with code 3")
    assert block.until - block.began == 600
    assert describe(block) == "block gpu 0 ended with code 3, job 17"
    assert read(tmp_path) == [block]


def test_a_script_that_a_signal_ends_says_so(watch):
    script(watch.folder, 0, "kill -TERM $$; sleep 5")

    (block,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert block.how == "ended by SIGTERM"


def test_a_job_that_could_not_say_it_ended_is_known_from_the_queue(watch):
    script(watch.folder, 0, "kill -KILL $$")

    (block,) = watch.look([Pool(b0=JobState.TIMEOUT)])

    assert block.began is not None
    assert block.how == "timeout"


def test_blocks_end_with_their_driver(watch, tmp_path):
    watch.look([Pool(b0=JobState.RUNNING, b1=JobState.PENDING)])

    assert {block.how for block in watch.close()} == {"released"}
    assert all(block.ended for block in read(tmp_path))


def test_on_this_machine_an_allocation_around_it_does_not_count(watch):
    script(watch.folder, 0, scheduled=False)

    (block,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert block.job == "7b0"
    assert len(block.nodes) == 1
    assert block.nodes != ("nid1",)


def test_gpu_hours_are_counted_from_the_beginning():
    block = Block(name="000 gpu 0", gpus=8, began=1000.0)

    assert gpu_hours([block], now=4600.0) == 8
    assert gpu_hours([Block(name="000 gpu 0", gpus=8)], now=time.time()) == 0


def test_the_time_in_the_queue_between_two_drivers_of_one_job_costs_nothing():
    first = Block(name="000 gpu 0", job="17", gpus=4, began=0.0, ended=3600.0)
    second = Block(name="001 gpu 0", job="17", gpus=4, began=36_000.0, ended=39_600.0)

    assert gpu_hours([first, second], now=50_000.0) == 8


def test_blocks_of_one_driver_in_one_job_count_each_moment_once():
    gpu = Block(name="000 gpu 0", job="17", gpus=4, began=0.0, ended=3600.0)
    block = Block(name="000 block 0", job="17", gpus=4, began=1800.0, ended=5400.0)
    later = Block(name="000 gpu 1", job="17", gpus=4, began=7200.0, ended=9000.0)

    assert gpu_hours([later, gpu, block], now=0.0) == 8


def test_a_block_that_slurm_puts_back_into_the_queue_goes_on_and_its_wait_costs_nothing(watch, tmp_path):
    script(watch.folder, 0, "kill -TERM $$; sleep 5")
    (first,) = watch.look([Pool(b0=JobState.RUNNING)])
    assert first.how == "ended by SIGTERM"

    (waiting,) = watch.look([Pool(b0=JobState.PENDING)])
    assert (waiting.began, waiting.ended, waiting.earlier) == (None, None, ((first.began, first.ended),))
    assert describe(waiting) == "block gpu 0 queued again, job 17"
    assert watch.look([Pool(b0=JobState.PENDING)]) == []

    script(watch.folder, 0, "kill -KILL $$")
    (again,) = watch.look([Pool(b0=JobState.RUNNING)])
    assert describe(again) == "block gpu 0 began again, job 17"
    assert again.ended is None
    assert again.began > first.ended
    assert again.seconds(again.began + 5) == pytest.approx(first.ended - first.began + 5)
    assert read(tmp_path) == [again]


def test_a_block_that_began_since_the_queue_was_asked_is_not_taken_for_one_put_back(watch):
    watch.look([Pool(b0=JobState.PENDING)])
    script(watch.folder, 0, "kill -KILL $$")

    (block,) = watch.look([Pool(b0=JobState.PENDING)])

    assert describe(block) == "block gpu 0 began, job 17"
    assert watch.look([Pool(b0=JobState.PENDING)]) == []


def test_a_block_that_began_again_unseen_is_known_by_its_own_word(watch):
    script(watch.folder, 0, "exit 143")
    (first,) = watch.look([Pool(b0=JobState.RUNNING)])

    script(watch.folder, 0, "kill -KILL $$")
    (again,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert (again.ended, again.earlier) == (None, ((first.began, first.ended),))
    script(watch.folder, 0, "exit 143")
    (third,) = watch.look([Pool(b0=JobState.RUNNING)])
    assert [begin for begin, _ in third.earlier] == [first.began, again.began]
    assert third.earlier[-1][1] == third.began  # its end was not seen
    assert third.how == "ended by SIGTERM"
    assert watch.look([Pool(b0=JobState.RUNNING)]) == []


def test_what_a_task_prints_like_a_blocks_word_is_passed_over(watch):
    words = ('"begins","job":"17"}', '"ends","code":"x","at":"1"}', '"ends","at":"soon"}', '"begins","jo')
    script(watch.folder, 0, "\n".join(f"""printf '%s\\n' '{{"block":{word}'""" for word in words) + "\nkill -KILL $$")

    (block,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert describe(block) == "block gpu 0 began, job 17"


def test_torn_lines_are_passed_over(tmp_path):
    (tmp_path / FILE).write_text('{"name": "000 gpu 0", "nodes": []}\n{"name": "x", "colour": 1, "nodes": []}\n{"na')

    assert [block.name for block in read(tmp_path)] == ["000 gpu 0"]
