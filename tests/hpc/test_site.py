from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.hpc import site_registry
from quatrain.hpc.limits import broken_limits, reserve_s
from quatrain.hpc.placement import place
from quatrain.hpc.site import Qos, Request, Site, minutes


@given(st.integers(1, 10_000))
def test_a_walltime_in_minutes_and_as_slurm_writes_it_are_the_same(total):
    days, rest = divmod(total, 1440)
    as_clock = f"{rest // 60:02d}:{rest % 60:02d}:00"

    assert minutes(str(total)) == minutes(f"{days}-{as_clock}") == total
    assert minutes(f"{total // 60}:{total % 60:02d}:00") == total


def test_seconds_of_a_walltime_count_as_a_whole_minute():
    assert minutes("00:00:01") == 1


@pytest.mark.parametrize("text", ["", "soon", "1:2", "-5", "1h"])
def test_a_walltime_of_another_form_is_refused_with_the_right_ones(text):
    with pytest.raises(ValueError, match="HH:MM:SS"):
        minutes(text)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "--account m1234_g"),
        ({"account": "m1234"}, "does not have the form of"),
        ({"account": "m1_g", "walltime_min": 31}, "over 30 minutes"),
        ({"account": "m1_g", "nodes": 9}, "--nodes 9 is over 8"),
        (
            {"account": "m1_g", "qos": "long"},
            "no qos 'long': known: debug, interactive, preempt, regular, shared; --unchecked leaves",
        ),
        ({"account": "m1_g", "qos": "regula"}, "did you mean 'regular'?"),
        ({"account": "m1_g", "qos": "interactive"}, "needs salloc"),
        ({"account": "m1_g", "qos": "shared", "gpus_per_node": 4}, "--gpus-per-node 4 is over 2"),
        ({"account": "m1_g", "walltime_min": 1}, "too short for the longest task"),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_with_what_to_change(asked, said):
    problems = broken_limits(place(site_registry.find("perlmutter"), Request(**asked)))

    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize("asked", [{"qos": "premium"}, {"walltime_min": 31}, {"nodes": 9}])
def test_limits_can_be_left_to_slurm(asked):
    assert not broken_limits(place(site_registry.find("perlmutter"), Request(account="m1_g", unchecked=True, **asked)))


@pytest.mark.parametrize(("qos", "gpus", "share"), [("shared", 1, 0.25), ("shared", 2, 0.5), ("debug", 1, 1.0)])
def test_a_shared_node_is_paid_for_by_its_share(qos, gpus, share):
    assert place(site_registry.find("perlmutter"), Request(qos=qos, gpus_per_node=gpus)).share == share


def test_a_request_within_the_rules_breaks_none():
    request = Request(account="m1234_g", nodes=4, qos="regular", walltime_min=600)

    assert broken_limits(place(site_registry.find("perlmutter"), request), longest_task_s=3600) == []


@given(st.integers(0, 100_000), st.integers(0, 600))
def test_a_walltime_that_passes_leaves_time_in_which_the_longest_task_is_taken(longest_s, startup_s):
    site = dataclasses.replace(site_registry.find("slurm"), startup_s=startup_s)
    (least,) = broken_limits(place(site, Request(walltime_min=1)), longest_s) or ["use at least 1"]
    walltime_min = int(re.findall(r"use at least (\d+)", least)[0])

    assert not broken_limits(place(site, Request(walltime_min=walltime_min)), longest_s)
    assert walltime_min * 60 > startup_s + reserve_s(walltime_min * 60, longest_s)
    assert walltime_min == 1 or broken_limits(place(site, Request(walltime_min=walltime_min - 1)), longest_s)


def test_a_machine_without_a_scheduler_has_no_rules():
    assert broken_limits(place(site_registry.find("local"), Request(nodes=99, walltime_min=1))) == []


def test_a_shared_node_gives_its_share_of_cores():
    site = place(site_registry.find("perlmutter"), Request(account="m1_g", qos="shared", gpus_per_node=1)).site

    assert (site.gpu_workers, site.gpus_per_node, site.cpus_per_node) == (1, 1, 32)


def test_a_generic_cluster_takes_its_gpus_and_features_from_the_request():
    site = place(site_registry.find("slurm"), Request(gpus_per_node=8, constraint="a100")).site

    assert (site.gpu_workers, site.gpus_per_node, site.features) == (8, 8, ("a100",))
    assert site.workers("gpu", nodes=3) == 24
    assert site.workers("block", nodes=3) == 1


@pytest.mark.parametrize(
    "wrong", [{"nodes": 0}, {"walltime_min": 0}, {"gpus_per_node": -1}, {"partition": "a\nrm"}, {"qos": ""}]
)
def test_a_request_refuses_impossible_values_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).removesuffix("_min")):
        Request(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"gpu_workers": 0}, {"cpus_per_node": 0}, {"gpu_workers": 3, "gpus_per_node": 2}, {"default_qos": "none"}]
)
def test_a_site_that_contradicts_itself_is_refused(wrong):
    facts = {"name": "here", "description": "", "cpus_per_node": 4, "gpu_workers": 1}

    with pytest.raises(ValueError, match="here"):
        Site(**{**facts, **wrong})


def test_a_quality_of_service_needs_some_time():
    with pytest.raises(ValueError, match="max_walltime_min"):
        Qos(name="none", max_walltime_min=0)


@pytest.mark.parametrize(("name", "value"), [("scheduler", "pbs"), ("container", "docker")])
def test_a_scheduler_or_a_container_that_nobody_knows_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; known: none, "):
        dataclasses.replace(site_registry.find("local"), **{name: value})
