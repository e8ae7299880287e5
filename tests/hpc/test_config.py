from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import time

import pytest
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.providers import LocalProvider

from quatrain.errors import UsageError
from quatrain.hpc import config, site_registry
from quatrain.hpc.allocation import Allocation, current
from quatrain.hpc.limits import MARGIN_S
from quatrain.hpc.placement import place
from quatrain.hpc.plan import Step
from quatrain.hpc.site import Request

INSIDE = Allocation(job_id="7", nodes=("nid1", "nid2"), gpus=("2", "3"))
PERLMUTTER = site_registry.find("perlmutter")


def test_a_configuration_has_one_executor_for_each_shape_and_is_fresh_each_time(tmp_path):
    first, second = (config.parsl_config(place(site_registry.find("local"), Request()), tmp_path) for _ in range(2))

    assert [pool.label for pool in first.executors] == ["gpu", "block"]
    assert not set(map(id, first.executors)) & set(map(id, second.executors))
    assert first.run_dir == str(tmp_path / "parsl")
    assert first.usage_tracking == 0


def test_local_workers_stay_on_the_loopback_and_wait_for_work(tmp_path):
    gpu, block = config.parsl_config(place(site_registry.find("local"), Request()), tmp_path).executors

    assert gpu.all_addresses == block.all_addresses == {"127.0.0.1"}
    assert gpu.max_workers_per_node == site_registry.find("local").gpu_workers
    assert block.max_workers_per_node == 1
    assert gpu.provider.init_blocks == block.provider.init_blocks == 0
    assert gpu.drain_period is None


def test_threads_stand_in_for_a_debugger(tmp_path):
    pools = config.parsl_config(place(site_registry.find("local-threads"), Request()), tmp_path).executors

    assert all(isinstance(pool, ThreadPoolExecutor) for pool in pools)
    assert [pool.max_threads for pool in pools] == [1, 1]


def test_an_allocation_is_used_as_it_is():
    provider = config.provider(place(PERLMUTTER, Request(), INSIDE), "gpu")

    assert isinstance(provider, LocalProvider)
    assert provider.nodes_per_block == 2
    assert "--ntasks-per-node=1 --overlap --gpus-per-node=4" in provider.launcher.overrides


def test_pools_of_gpu_workers_start_on_every_node_and_the_block_worker_on_the_first():
    assert isinstance(config.launcher(place(PERLMUTTER, Request()), "gpu"), SrunLauncher)
    assert isinstance(config.launcher(place(PERLMUTTER, Request()), "block"), SimpleLauncher)
    assert "--overlap" not in config.launcher(place(PERLMUTTER, Request()), "gpu").overrides


@pytest.mark.parametrize("shape", ["gpu", "block"])
def test_every_step_is_given_its_processors_because_srun_inherits_none(shape):
    known = config.launcher(place(PERLMUTTER, Request(), INSIDE), shape).overrides
    unknown = config.launcher(place(site_registry.find("slurm"), Request(), INSIDE), shape).overrides

    assert "--cpus-per-task=128" in known.split()
    assert "--cpus-per-task=${SLURM_JOB_CPUS_PER_NODE%%[(,]*}" in unknown.split()


@pytest.mark.parametrize(("reported", "cpus"), [("128(x2)", "128"), ("64,32", "64"), ("8", "8")])
def test_a_shell_reads_the_processors_of_a_node_out_of_slurms_list(reported, cpus):
    word = config.launcher(place(site_registry.find("slurm"), Request()), "gpu").overrides.split()[-1]

    said = subprocess.run(
        ["bash", "-c", f"echo {word}"], env={"SLURM_JOB_CPUS_PER_NODE": reported}, capture_output=True
    )

    assert said.stdout.decode().strip() == f"--cpus-per-task={cpus}"


def test_workers_are_pinned_to_the_gpus_that_slurm_gave():
    shared = config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "gpu")
    whole = config.worker_pool(place(PERLMUTTER, Request(), Allocation(job_id="7", nodes=("nid1",))), "gpu")
    block = config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "block")

    assert shared.available_accelerators == ["2", "3"]
    assert whole.available_accelerators == ["0", "1", "2", "3"]
    assert block.available_accelerators == []


def test_a_reversed_gpu_order_turns_the_cores_and_not_the_gpus():
    natural = dataclasses.replace(PERLMUTTER, gpu_order="natural")

    assert config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "gpu").cpu_affinity == "block-reverse"
    assert config.worker_pool(place(natural, Request(), INSIDE), "gpu").cpu_affinity == "block"
    assert config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "block").cpu_affinity == "none"


def test_no_web_service_is_asked_for_the_address(monkeypatch):
    monkeypatch.setattr("parsl.addresses.address_by_query", pytest.fail)
    monkeypatch.setattr("parsl.executors.high_throughput.executor.get_all_addresses", pytest.fail)

    pool = config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "gpu")

    assert pool.address is None
    assert pool.all_addresses == set(config.addresses())


def test_tasks_stop_being_taken_early_enough_for_the_longest_to_end():
    plan = (Step(name="train", shape="block", count=1, seconds=900), Step(name="m", shape="gpu", count=9, seconds=30))
    request = Request(walltime_min=60)

    assert config.drain_s(place(PERLMUTTER, request), "block", plan) == 3600 - 120 - 900 - MARGIN_S
    assert config.drain_s(place(PERLMUTTER, request), "gpu", plan) == 3600 - 120 - 30 - MARGIN_S


def test_inside_an_allocation_its_own_end_counts():
    ending = dataclasses.replace(INSIDE, end_time_s=time.time() + 1000)

    assert config.drain_s(place(PERLMUTTER, Request(), INSIDE), "gpu", ()) is None
    assert config.drain_s(place(PERLMUTTER, Request(), ending), "gpu", ()) == pytest.approx(1000 - 180, abs=2)


def test_a_training_longer_than_the_walltime_does_not_keep_its_pool_from_taking_it():
    plan = (Step(name="train", shape="block", count=1, seconds=120_000, resumable=True),)

    assert config.drain_s(place(PERLMUTTER, Request(walltime_min=60)), "block", plan) == 3600 - 120 - MARGIN_S
    assert (
        " --reserve=60 "
        in config.worker_pool(place(PERLMUTTER, Request()), "block", plan, nodes=LocalProvider()).launch_cmd
    )


def test_each_pool_learns_when_its_nodes_are_taken_back():
    ending = dataclasses.replace(INSIDE, end_time_s=time.time() + 1000)
    plan = (Step(name="m", shape="gpu", count=9, seconds=30),)
    ours = Request(walltime_min=60, allocation=False)

    inside = config.provider(place(PERLMUTTER, Request(), ending), "gpu")
    own = config.slurm_settings(place(PERLMUTTER, ours), "gpu")

    assert f'export QUATRAIN_END="{int(ending.end_time_s)}"' in inside.worker_init
    assert 'export QUATRAIN_END="${SLURM_JOB_END_TIME:-$(($(date +%s) + 3600))}"' in own["worker_init"]
    assert "QUATRAIN_END" not in config.provider(place(PERLMUTTER, Request(), INSIDE), "gpu").worker_init
    assert " --reserve=90 --stay " in config.worker_pool(place(PERLMUTTER, Request(), ending), "gpu", plan).launch_cmd
    assert (
        " --reserve=90 p" in config.worker_pool(place(PERLMUTTER, ours), "gpu", plan, nodes=LocalProvider()).launch_cmd
    )
    assert "--reserve" not in config.worker_pool(place(PERLMUTTER, Request(), INSIDE), "gpu", plan).launch_cmd


def test_a_driver_in_a_job_of_its_own_keeps_the_time_free_after_which_it_is_asked_to_stop():
    reported = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "nid1", "QUATRAIN_GRACE_S": "300"}
    found = dataclasses.replace(current(reported), end_time_s=time.time() + 3600)
    plan = (Step(name="m", shape="gpu", count=9, seconds=30),)
    ours = Request(walltime_min=60, allocation=False)

    assert " --reserve=390 --stay " in config.worker_pool(place(PERLMUTTER, Request(), found), "gpu", plan).launch_cmd
    assert config.drain_s(place(PERLMUTTER, Request(), found), "gpu", plan) == pytest.approx(3600 - 120 - 390, abs=2)
    assert config.drain_s(place(PERLMUTTER, ours, found), "gpu", plan) == 3600 - 120 - 90


def test_a_lost_node_costs_little_a_lost_worker_more_and_an_exception_everything():
    lost_node = config.retry_cost(ManagerLost(b"m", "nid1"))
    lost_worker = config.retry_cost(WorkerLost(1, "nid1"))

    assert lost_node * 20 <= config.RETRIES
    assert config.retry_cost(ManagerLost(b"m", "nid1"), resumable=True) * config.RESUMABLE_TRIES <= config.RETRIES
    assert lost_worker * 3 <= config.RETRIES < lost_worker * 4
    assert config.retry_cost(ZeroDivisionError()) > config.RETRIES


def test_workers_find_this_python_and_get_the_variables_of_the_site():
    lines = config.worker_init(place(PERLMUTTER, Request()), "gpu").splitlines()

    assert any(line.startswith('export PATH="') for line in lines)
    assert 'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-32}"' in lines
    assert 'export NCCL_SOCKET_IFNAME="hsn"' in lines
    assert f"export {config.SRUN_OPTIONS}=--gpu-bind=none" in lines
    assert config.SRUN_OPTIONS not in config.worker_init(place(site_registry.find("local"), Request()), "block")


def test_settings_of_a_job_come_from_the_site_and_the_request():
    request = Request(account="m1_g", nodes=2, walltime_min=95, qos="regular")

    settings = config.slurm_settings(place(PERLMUTTER, request), "gpu")

    assert settings["walltime"] == "01:35:00"
    assert (settings["account"], settings["qos"], settings["constraint"]) == ("m1_g", "regular", "gpu")
    assert settings["scheduler_options"] == "#SBATCH --licenses=scratch,cfs\n#SBATCH --gpu-bind=none"


def test_the_interchange_is_started_bound_to_the_driver():
    pool = config.worker_pool(place(site_registry.find("local"), Request()), "gpu")

    assert isinstance(pool, HighThroughputExecutor)
    assert pool.interchange_launch_cmd[1:] == ["-m", "quatrain.hpc.interchange"]


def test_jobs_of_our_own_take_no_gpu_names_from_the_allocation_around_the_driver():
    request = Request(account="m1234_g", allocation=False)

    pool = config.worker_pool(place(PERLMUTTER, request, INSIDE), "gpu", nodes=LocalProvider())

    assert sorted(pool.available_accelerators) == ["0", "1", "2", "3"]


def test_parsls_monitoring_records_on_request_only(tmp_path):
    local = site_registry.find("local")

    assert config.parsl_config(place(local, Request()), tmp_path).monitoring is None
    hub = config.parsl_config(place(local, Request(monitoring=True)), tmp_path).monitoring
    assert hub.logging_endpoint == f"sqlite:///{tmp_path}/parsl/monitoring.db"


def test_monitoring_without_its_database_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(UsageError, match=r"--monitoring needs SQLAlchemy: pip install 'quatrain\[monitoring\]'"):
        config.parsl_config(place(site_registry.find("local"), Request(monitoring=True)), tmp_path)
