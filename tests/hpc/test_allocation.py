from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.hpc import site_registry
from quatrain.hpc.allocation import Allocation, current, expand, step_environment, with_end
from quatrain.hpc.placement import place
from quatrain.hpc.site import Request


@pytest.mark.parametrize(
    ("node_list", "names"),
    [
        ("", ()),
        ("nid001", ("nid001",)),
        ("nid[001-003,007],login1", ("nid001", "nid002", "nid003", "nid007", "login1")),
        ("a[9-11]", ("a9", "a10", "a11")),
        ("r[1-2]n[0-1]", ("r1n0", "r1n1", "r2n0", "r2n1")),
        ("c1-[2]-gpu", ("c1-2-gpu",)),
    ],
)
def test_a_node_list_is_written_out_in_its_order(node_list, names):
    assert expand(node_list) == names


@given(st.lists(st.integers(0, 999), min_size=1, max_size=20))
def test_a_list_of_single_numbers_expands_to_one_name_each(numbers):
    text = ",".join(f"{number:03d}" for number in numbers)

    assert expand(f"nid[{text}]") == tuple(f"nid{number:03d}" for number in numbers)


@given(st.integers(0, 500), st.integers(0, 30))
def test_a_range_holds_both_of_its_ends(first, length):
    names = expand(f"nid[{first:04d}-{first + length:04d}]")

    assert len(names) == length + 1
    assert (names[0], names[-1]) == (f"nid{first:04d}", f"nid{first + length:04d}")


@pytest.mark.parametrize("node_list", ["nid[", "nid]", "nid[a-b]", "nid[3-1]", "nid[1-]"])
def test_a_malformed_node_list_is_refused(node_list):
    with pytest.raises(ValueError, match="node"):
        expand(node_list)


def test_outside_of_slurm_there_is_no_allocation():
    assert current({"HOME": "/home"}) is None


def test_an_allocation_reports_its_nodes_its_gpus_and_its_end():
    environment = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "nid[1-2]",
        "SLURM_JOB_GPUS": "0,1,2,3",
        "SLURM_STEP_GPUS": "2-3",
        "SLURM_JOB_END_TIME": "1700000000",
    }

    found = current(environment)

    assert found is not None
    assert (found.job_id, found.nodes, found.gpus, found.end_time_s) == ("7", ("nid1", "nid2"), ("2", "3"), 1.7e9)


@pytest.mark.parametrize(
    ("site", "inside", "wanted", "origin"),
    [
        ("local", True, True, "local"),
        ("local", False, True, "local"),
        ("perlmutter", False, True, "slurm"),
        ("perlmutter", True, True, "allocation"),
        ("perlmutter", True, False, "slurm"),
    ],
)
def test_one_place_decides_where_nodes_come_from(site, inside, wanted, origin):
    found = current({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a"} if inside else {})

    assert place(site_registry.find(site), Request(allocation=wanted), found).origin == origin


def test_a_nested_step_does_not_see_the_step_around_it():
    inner = step_environment({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_STEP_GPUS": "0", "PATH": "/bin"})

    assert inner == {"SLURM_JOB_ID": "7", "PATH": "/bin"}


def test_the_end_of_an_allocation_is_asked_for_where_the_environment_does_not_report_it(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\ntest "$2" = --jobs=7 && echo 2026-11-24T21:40:00\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = with_end(Allocation(job_id="7", nodes=("a",)))

    assert found is not None
    assert found.end_time_s == datetime(2026, 11, 24, 21, 40).timestamp()
    assert with_end(Allocation(job_id="8", nodes=("a",))) == Allocation(job_id="8", nodes=("a",))
    assert with_end(None) is None


def test_an_allocation_that_has_less_than_its_site_is_seen_as_it_is():
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a", "SLURM_JOB_CPUS_PER_NODE": "64(x2),32"}
    found = current({**environment, "SLURM_GPUS_PER_NODE": "a100:2"})

    inside = place(site_registry.find("perlmutter"), Request(), found).site

    assert (inside.cpus_per_node, inside.gpus_per_node, inside.gpu_workers) == (32, 2, 2)
    assert place(site_registry.find("perlmutter"), Request(allocation=False), found).site.gpus_per_node == 4
    assert place(site_registry.find("perlmutter"), Request(), current(environment)).site.gpus_per_node == 4
