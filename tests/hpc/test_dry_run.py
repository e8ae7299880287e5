from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from parsl.providers import SlurmProvider

from quatrain.hpc import site_registry
from quatrain.hpc.config import slurm_settings, worker_pool
from quatrain.hpc.dry_run import batch_script, describe
from quatrain.hpc.placement import find_placement, place
from quatrain.hpc.plan import Step
from quatrain.hpc.site import SHAPES, Request

PLAN = (
    Step(name="train", shape="block", count=1, seconds=240),
    Step(name="measure", shape="gpu", count=64, seconds=30),
)
REQUEST = Request(account="m1234_g", nodes=4, walltime_min=30)


@pytest.fixture
def slurm_commands(tmp_path, monkeypatch):
    """An sbatch that takes any script and a sacct without accounting, first on the PATH."""
    for name, text in (("sbatch", "echo Submitted batch job 17"), ("sacct", "exit 1")):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["slurm", "perlmutter"])
def test_the_printed_script_is_the_one_that_is_submitted(name, shape, tmp_path, slurm_commands):
    site, folder = site_registry.find(name), tmp_path / "run" / "parsl" / "000"
    provider = SlurmProvider(**slurm_settings(place(site, REQUEST), shape))
    pool = worker_pool(place(site, REQUEST), shape, PLAN, nodes=provider)
    pool.run_dir, pool.cert_dir, pool.worker_port = str(folder), f"{folder}/{shape}/certificates", 54321
    pool.logconf_path = f"{folder}/{shape}/log_config/log_config.pkl"
    provider.script_dir = f"{folder}/submit_scripts"
    Path(provider.script_dir).mkdir(parents=True)

    pool.initialize_scaling()
    pool.scale_out_facade(1)

    submitted = next(Path(provider.script_dir).iterdir()).read_text()
    assert list(provider.resources) == ["17"]
    printed = batch_script(place(site, REQUEST), shape, PLAN, tmp_path / "run").replace("PORT", "54321")
    assert printed == re.sub(r"(block-0)\.\d+\.\d+", r"\1.TIME", submitted)


def test_a_script_for_perlmutter_asks_for_what_its_nodes_need(tmp_path):
    lines = batch_script(place(site_registry.find("perlmutter"), REQUEST), "gpu", PLAN, tmp_path).splitlines()

    wanted = {
        "nodes=4",
        "time=30",
        "account=m1234_g",
        "qos=debug",
        "constraint=gpu",
        "gpus-per-node=4",
        "gpu-bind=none",
    }
    assert {f"#SBATCH --{option}" for option in wanted} <= set(lines)
    assert any(line.startswith("srun --ntasks 4 ") and "--gpu-bind=none" in line for line in lines)
    assert 'export FI_MR_CACHE_MONITOR="userfaultfd"' in lines


def test_a_shared_node_is_not_asked_for_whole(tmp_path):
    request = Request(account="m1_g", qos="shared", gpus_per_node=1)

    script = batch_script(place(site_registry.find("perlmutter"), request), "gpu", PLAN, tmp_path)

    assert "--exclusive" not in script
    assert "#SBATCH --cpus-per-task=32" in script
    assert re.search(r"srun .*--cpus-per-task=32 ", script)


def test_tasks_executors_node_hours_and_limits_are_reported(tmp_path):
    text = describe(
        place(site_registry.find("perlmutter"), Request(account="m1", nodes=2, walltime_min=60)), PLAN, tmp_path
    )

    assert re.search(r"measure +64 x 30 s  shape gpu", text)
    assert "gpu: 4 workers on each of 2 nodes, GPUs 0 1 2 3, cores block-reverse, no new task after 0:56:30" in text
    assert "block: 1 worker on the first node of each block, no new task after 0:53:00" in text
    assert "time: about 0:08:00 of work on 2 nodes" in text
    assert "node-hours: about 0.27 x 1 (qos debug) = 0.27 charged" in text
    assert "does not have the form of perlmutter's: m1234_g" in text
    assert "over 30 minutes" in text


def test_a_part_of_a_shared_node_is_charged_by_its_share(tmp_path):
    request = Request(account="m1_g", qos="shared", gpus_per_node=1, walltime_min=60)
    plan = (Step(name="measure", shape="gpu", count=1, seconds=3600 * 10),)

    text = describe(place(site_registry.find("perlmutter"), request), plan, tmp_path)

    assert "node-hours: about 2.50 x 1 (qos shared) = 2.50 charged, for 0.25 of a node" in text


def test_a_submission_is_the_drivers_job_and_what_it_then_starts(tmp_path):
    text = describe(place(site_registry.find("perlmutter"), REQUEST), PLAN, tmp_path, submitted="nas")

    job, inside = text.split("in this job the driver starts")
    assert text.count("#!/bin/bash") == 1
    assert "nodes: one job submitted with sbatch, in which the driver runs too" in job
    assert "#SBATCH --signal=B:USR1@300" in job
    assert f"nas --resume {tmp_path}" in job
    assert "#SBATCH" not in inside
    assert "srun --ntasks 4 " in inside
    assert "--reserve=" in inside
    assert "export QUATRAIN_GRACE_S=300" in job
    assert 'export QUATRAIN_END="END"' in inside
    assert "4 workers on each of 4 nodes" in inside
    assert "limits: all kept" in inside


def test_limits_that_nobody_checks_are_said_to_be_slurms(tmp_path):
    request = Request(account="m1_g", qos="premium", unchecked=True)

    assert "limits: left to Slurm (--unchecked)" in describe(
        place(site_registry.find("perlmutter"), request), PLAN, tmp_path
    )


def test_a_discounted_queue_is_charged_less(tmp_path):
    request = Request(account="m1_g", qos="preempt", walltime_min=60)

    assert "x 0.25 (qos preempt)" in describe(place(site_registry.find("perlmutter"), request), PLAN, tmp_path)


def test_a_request_within_the_limits_says_when_they_were_checked(tmp_path):
    text = describe(place(site_registry.find("perlmutter"), REQUEST), PLAN, tmp_path)

    assert f"limits: all kept (checked {site_registry.find('perlmutter').limits_checked})" in text


def test_local_sites_need_no_script(tmp_path):
    local = describe(place(site_registry.find("local"), Request()), PLAN, tmp_path)
    threads = describe(place(site_registry.find("local-threads"), Request()), PLAN, tmp_path)

    assert "process_worker_pool.py" in local
    assert "gpu: 1 thread in this process" in threads
    assert "#SBATCH" not in local + threads
    assert "time: about 0:36:00" in threads


def test_inside_an_allocation_its_nodes_are_reported_and_nothing_is_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "nid[1-2]")

    text = describe(find_placement(site_registry.find("perlmutter"), Request()), PLAN, tmp_path)

    assert "nodes: the allocation 7 around this command (nid1, nid2)" in text
    assert "4 workers on each of 2 nodes" in text
    assert "srun --ntasks 2" in text
    assert "#SBATCH" not in text
    assert "limits" not in text


def test_a_plan_without_tasks_starts_nothing(tmp_path):
    text = describe(place(site_registry.find("perlmutter"), REQUEST), (), tmp_path)

    assert "#SBATCH" not in text
    assert "  none" in text


def test_nothing_is_written_asked_or_loaded(tmp_path):
    program = (
        "import subprocess, sys; from pathlib import Path; from quatrain.hpc import site_registry as catalog;"
        "subprocess.Popen = None;"
        "from quatrain.hpc.dry_run import describe; from quatrain.hpc.plan import Step;"
        "from quatrain.hpc.placement import place; from quatrain.hpc.site import Request;"
        "plan = (Step(name='a', shape='gpu', count=1, seconds=1),);"
        "[describe(place(catalog.find(name), Request(account='m1_g')), plan, Path('r')) for name in catalog.names()];"
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env={"PATH": "/nowhere"})

    assert not list(tmp_path.iterdir())
