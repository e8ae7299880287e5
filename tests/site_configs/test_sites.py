from __future__ import annotations

import datetime
import re

import pytest

from quatrain.files import fingerprint, plain
from quatrain.hpc import site_registry
from quatrain.hpc.config import parsl_config
from quatrain.hpc.placement import place
from quatrain.hpc.site import Request

SITES = [site_registry.find(name) for name in site_registry.names()]


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_site_is_data_without_anybodys_account_or_home(site):
    text = repr(site)

    assert site.name in site_registry.names()
    assert not re.search(r"@|/home/|/users?/|account=", text, re.IGNORECASE)
    assert fingerprint(site) == fingerprint(site_registry.find(site.name))
    assert plain(site)["name"] == site.name


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_limits_come_with_the_date_on_which_they_were_checked(site):
    if site.qos:
        assert datetime.date.fromisoformat(f"{site.limits_checked}-01") > datetime.date(2025, 1, 1)
    else:
        assert site.limits_checked == ""


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_the_example_of_an_account_has_the_form_that_is_asked_for(site):
    assert re.fullmatch(site.account_pattern, site.account_example)


@pytest.mark.parametrize("name", ["local", "local-threads"])
def test_a_local_site_configures_without_a_cluster(name, tmp_path):
    assert len(parsl_config(place(site_registry.find(name), Request()), tmp_path).executors) == 2


def test_local_has_a_worker_for_each_processor_and_no_more_than_eight(monkeypatch):
    counts = {}
    for cpus in (1, 2, 64):
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid, cpus=cpus: set(range(cpus)))
        counts[cpus] = site_registry.find("local").gpu_workers

    assert counts == {1: 1, 2: 2, 64: 8}


def test_perlmutter_is_described_as_its_documentation_does():
    site = site_registry.find("perlmutter")

    assert (site.gpus_per_node, site.gpu_workers, site.gpu_order) == (4, 4, "reversed")
    assert site.default_qos == "debug"
    assert {qos.name for qos in site.qos} >= {"regular", "debug", "interactive", "shared", "preempt"}
    assert "--gpu-bind=none" in site.scheduler_options
    assert "--gpu-bind=none" in site.srun_options
    assert site.max_blocks * 2 <= 2
