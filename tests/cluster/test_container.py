"""Workers and programs inside an image, by the same command line as without one."""

from __future__ import annotations

import images
import pytest


@pytest.mark.parametrize("inside", [False, True], ids=["batch", "allocation"])
def test_workers_and_programs_run_the_images_python(start, slurm, inside):
    around = ("salloc", "-N2", "-Cgpu", "--gpus-per-node=2", "--cpus-per-task=2", "--time=10") if inside else ()
    words = ("--nodes", "2", "--gpus-per-node", "2", "--count", "8", "--program", "--image", images.NAME)

    paths = {"PYTHONPATH": f"{slurm['PYTHONPATH']}:/tasks"}  # outside and inside

    driver = start(*words, site="shifter_site.py", before=around, environment=paths)

    assert driver.code() == 0, driver.said
    summary = driver.summary()
    assert {place["python"] for place in summary["places"]} == {images.PYTHON}
    assert {(place["node"], place["gpus"]) for place in summary["places"]} == {
        (node, gpu) for node in ("nid001", "nid002") for gpu in "01"
    }
    assert [process["sum"] for process in summary["processes"]] == [6, 6, 6, 6]
    assert {process["image"] for process in summary["processes"]} == {"group/quatrain:1"}
    assert {process["node"] for process in summary["processes"]} == {"nid001", "nid002"}
    assert [(keeper["machine"], keeper["node"]) for keeper in summary["keepers"]] == [("0", "nid001"), ("1", "nid002")]
    assert {(keeper["python"], keeper["image"]) for keeper in summary["keepers"]} == {
        (f"{images.PYTHON}3", "group/quatrain:1")
    }


def test_an_image_that_is_not_there_is_reported_with_shifters_words(start):
    driver = start("--count", "1", "--image", "docker:group/other:2", site="shifter_site.py")

    assert driver.code() == 1, driver.said
    assert "FAILED to find requested image" in driver.said


def test_a_container_without_an_image_is_refused_at_once(start):
    driver = start("--count", "1", site="shifter_site.py")

    assert driver.code() == 2
    assert "add --image" in driver.said
