from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from quatrain.hpc import config, container, site_registry
from quatrain.hpc.allocation import Allocation
from quatrain.hpc.limits import broken_limits
from quatrain.hpc.placement import place
from quatrain.hpc.site import Request
from quatrain.nas.autotune_config import AutotuneConfig

SHIFTER = site_registry.find("perlmutter-shifter")
PODMAN = site_registry.find("perlmutter-podman")
APPTAINER = dataclasses.replace(
    site_registry.find("slurm"), container="apptainer", image="/images/q.sif", container_options=("--nv",)
)
ASKED = Request(account="m1_g", image="docker:group/q:1")
RUN = Path("/runs/a")


NODE = Allocation(job_id="7", nodes=("nid1",))


def words(site, *, inside=None, request=ASKED, mounts=()):
    return container.words(place(site, request, inside, mounts), [RUN])


def test_shifter_is_named_in_the_batch_script_and_stands_bare_before_the_worker():
    settings = config.slurm_settings(place(SHIFTER, ASKED), "gpu", RUN)

    assert "#SBATCH --image=docker:group/q:1\n#SBATCH --module=gpu,nccl-plugin" in settings["scheduler_options"]
    assert words(SHIFTER) == ["shifter"]


def test_inside_an_allocation_shifter_gets_all_options():
    assert words(SHIFTER, inside=NODE) == ["shifter", "--image=docker:group/q:1", "--module=gpu,nccl-plugin"]


def test_folders_are_mapped_in_each_runtimes_own_words():
    mapped = dataclasses.replace(SHIFTER, volumes=(("/a", "/b"), ("/c", "/d")))

    assert "--volume=/a:/b;/c:/d" in words(mapped, inside=NODE)
    assert {"--volume=/runs/a:/runs/a", "--gpu", "--nccl"} <= set(words(PODMAN))
    assert words(APPTAINER, request=Request()) == [
        "apptainer",
        "exec",
        "--nv",
        "--bind=/runs/a:/runs/a",
        "/images/q.sif",
    ]


@pytest.mark.parametrize("site", [SHIFTER, PODMAN, APPTAINER], ids=lambda site: site.container)
def test_a_pool_starts_inside_with_the_images_python(site):
    pool = config.worker_pool(place(site, ASKED, Allocation(job_id="7", nodes=("nid1",))), "gpu", run_dir=RUN)
    inside = config.worker_init(place(site, ASKED), "gpu", RUN)

    assert pool.launch_cmd.startswith(words(site, inside=NODE)[0])
    assert "python3 -m quatrain.hpc.worker_pool process_worker_pool.py" in pool.launch_cmd
    assert "export PATH=" not in inside


def test_the_block_worker_stays_outside_and_hands_the_words_on():
    pool = config.worker_pool(place(SHIFTER, ASKED, Allocation(job_id="7", nodes=("nid1",))), "block")
    lines = config.worker_init(place(SHIFTER, ASKED, NODE), "block", RUN)

    assert pool.launch_cmd.startswith("python3 -m quatrain.hpc.worker_pool")
    assert "export QUATRAIN_CONTAINER='shifter --image=docker:group/q:1 --module=gpu,nccl-plugin'" in lines


def test_without_a_container_there_are_no_words():
    assert words(site_registry.find("perlmutter")) == []
    assert container.script_options(place(site_registry.find("perlmutter"), ASKED)) == []


def test_a_container_needs_an_image():
    assert any("add --image" in text for text in broken_limits(place(SHIFTER, Request(account="m1_g"))))
    assert not broken_limits(place(SHIFTER, ASKED))
    assert not broken_limits(place(APPTAINER, Request()))


def test_an_image_is_looked_up_and_pulled_in_each_runtimes_own_words():
    assert container.lookup_command(place(SHIFTER, ASKED)) == ["shifterimg", "lookup", "docker:group/q:1"]
    assert container.lookup_command(place(PODMAN, ASKED)) == ["podman-hpc", "image", "exists", "docker:group/q:1"]
    assert container.lookup_command(place(APPTAINER, Request())) is None
    assert container.pull_command(place(SHIFTER, ASKED)) == "shifterimg pull docker:group/q:1"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A working folder, data, a checkpoint and a root of runs, apart from each other."""
    for name in ("work", "data/images", "models", "runs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models" / "best.pt").touch()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(("site", "option"), [(PODMAN, "--volume"), (APPTAINER, "--bind")])
def test_what_flags_name_is_mounted_where_it_lies(places, site, option):
    config = AutotuneConfig(data=str(places / "data" / "images"), supernet=places / "models" / "best.pt")

    reported = words(site, mounts=container.mounts(site, config, [places / "runs"]))

    for name in ("work", "data/images", "models", "runs"):
        assert f"{option}={places / name}:{places / name}" in reported
    assert (f"--workdir={places / 'work'}" in reported) == (site is PODMAN)


def test_links_are_seen_with_what_they_lead_to_and_checkpoints_with_their_run(places):
    (places / "runs" / "a" / "checkpoints").mkdir(parents=True)
    (places / "runs" / "a" / "checkpoints" / "supernet.pt").touch()
    (places / "link").symlink_to(places / "data")
    config = {
        "supernet": places / "runs" / "a" / "checkpoints" / "supernet.pt",
        "data": str(places / "link" / "images"),
    }

    seen = set(container.mounts(PODMAN, config, []))

    assert seen == {places / name for name in ("work", "runs/a", "link/images", "data/images")}


def test_relative_paths_are_seen_and_words_that_are_no_paths_are_not(places):
    (places / "work" / "here").mkdir()

    seen = container.mounts(PODMAN, {"data": "here", "up": ["../data/images"], "model": "vit_mini", "none": ""}, [])

    assert seen == (places / "work", places / "data/images")


def test_shifter_shows_its_file_systems_by_itself(places):
    assert container.mounts(SHIFTER, {"data": str(places / "data")}, [places]) == ()
