from __future__ import annotations

import subprocess
import time

import pytest
from parsl.jobs.states import JobState, JobStatus

from quatrain.hpc.allocation import announcement
from quatrain.hpc.blocks import FILE, Block, BlockWatch, read, told


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
    assert [told(block) for block in watch.look([Pool(b0=JobState.PENDING)])] == ["block gpu 0 queued, job 7b0"]
    assert watch.look([Pool(b0=JobState.PENDING)]) == []

    script(watch.folder, 0, "exit 3")
    (block,) = watch.look([Pool(b0=JobState.RUNNING)])

    assert (block.job, block.nodes, block.gpus, block.how) == ("17", ("nid1", "nid2"), 8, "ended with code 3")
    assert block.until - block.began == 600
    assert told(block) == "block gpu 0 ended with code 3, job 17"
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

    assert block.gpu_hours(now=4600.0) == 8
    assert Block(name="000 gpu 0", gpus=8).gpu_hours(now=time.time()) == 0


def test_torn_lines_are_passed_over(tmp_path):
    (tmp_path / FILE).write_text('{"name": "000 gpu 0", "nodes": []}\n{"name": "x", "colour": 1, "nodes": []}\n{"na')

    assert [block.name for block in read(tmp_path)] == ["000 gpu 0"]
