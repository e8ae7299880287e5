"""Refusals of Slurm are reported in its own words, with the flag to change."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "said", "change"),
    [
        (("--constraint", "h100"), "Invalid feature specification", "--constraint"),
        (("--nodes", "3"), "Node count specification invalid|node configuration is not available", "--nodes"),
        (("--walltime", "61"), "time limit is invalid", "--walltime"),
        (("--gpus-per-node", "5"), "node configuration is not available", "--gpus-per-node"),
        (("--partition", "cpu"), "invalid partition", "--partition"),
    ],
)
def test_a_refused_job_ends_the_run_with_the_schedulers_words_and_the_way_out(start, words, said, change):
    driver = start("--count", "1", *words)

    assert driver.code() == 2, driver.said
    (complaint,) = [line for line in driver.said.splitlines() if line.startswith("quatrain: Slurm")]
    assert any(part.lower() in complaint.lower() for part in said.split("|"))
    assert change in complaint.partition("; change ")[2]
    assert driver.summary()["state"] == "failed"


def test_a_wrong_account_is_refused_before_anything_is_asked(start):
    driver = start("--account", "m1234", "--count", "1")

    assert driver.code() == 2
    assert driver.said.strip() == "quatrain: account 'm1234' does not have the form of virtual's: m1234_g"


def test_a_worker_that_cannot_start_shows_what_its_script_said(start):
    driver = start("--count", "1", site="broken_site.py")

    assert driver.code() == 1, driver.said
    assert "quatrain: a job for shape gpu ended before a worker connected" in driver.said
    assert "Lmod has no module 'pytorch/99'" in driver.said
    assert not driver.jobs()
