"""Three ways to get nodes, on a real Slurm."""

from __future__ import annotations

import subprocess

import pytest

EIGHT = {(node, gpu) for node in ("nid001", "nid002") for gpu in "0123"}


def pinned(driver):
    places = driver.summary()["places"]
    assert len({(place["node"], place["gpus"], place["pid"]) for place in places}) == 8
    return {(place["node"], place["gpus"]) for place in places}


def test_a_batch_job_gives_work_to_every_gpu_of_both_nodes(start):
    driver = start("--nodes", "2", "--count", "24")

    assert driver.code() == 0, driver.said
    assert pinned(driver) == EIGHT
    assert not driver.jobs()
    began = next(line for line in driver.events() if "began" in line["message"])
    assert (began["state"], began["node"]) == ("block", "nid001 nid002")


def test_inside_an_allocation_its_nodes_are_used_and_nothing_is_submitted(start):
    driver = start("--count", "24", before=("salloc", "-N2", "-Cgpu", "--gpus-per-node=4", "--time=5"))

    assert driver.code() == 0, driver.said
    assert pinned(driver) == EIGHT
    assert {place["job"] for place in driver.summary()["places"]} == {_granted(driver)}


def test_an_allocation_can_be_left_alone(start):
    driver = start("--count", "4", "--no-allocation", before=("salloc", "-N1", "--time=5"))

    assert driver.code() == 0, driver.said
    assert _granted(driver) not in {place["job"] for place in driver.summary()["places"]}


def _granted(driver):
    return next(line for line in driver.said.splitlines() if "Granted job allocation" in line).split()[-1]


@pytest.mark.parametrize("inside", [False, True], ids=["batch", "allocation"])
def test_a_block_has_one_worker_on_its_first_node(start, inside):
    words = ("--count", "2", "--shape", "block")
    around = ("salloc", "-N2", "-Cgpu", "--gpus-per-node=4", "--time=5")
    driver = start(*words, before=around) if inside else start("--nodes", "2", *words)

    assert driver.code() == 0, driver.said
    assert len({place["pid"] for place in driver.summary()["places"]}) == 1
    assert {place["node"] for place in driver.summary()["places"]} == {"nid001"}


def test_on_a_shared_node_workers_use_the_gpus_that_slurm_gave_them(start, slurm):
    hold = ["sbatch", "--parsable", "-N2", "--gpus-per-node=2", "-o/dev/null", "--wrap=srun sleep 600"]
    other = subprocess.run(hold, env=slurm, capture_output=True, text=True, check=True).stdout.strip()
    try:
        driver = start("--gpus-per-node", "2", "--count", "4")

        assert driver.code() == 0, driver.said
        assert {place["gpus"] for place in driver.summary()["places"]} == {"2", "3"}
    finally:
        subprocess.run(["scancel", other], env=slurm, check=True)
