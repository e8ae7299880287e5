"""Processes that srun starts find each other, by MPI and by Slurm's own variables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from quatrain.hpc.rendezvous import FIRST_PORT

TELL = (
    "import json, pathlib, sys; from quatrain.hpc.rendezvous import meet; g = meet('runs/a');"
    "reported = [g.rank, g.ranks, g.local_rank, g.local_ranks, g.addresses[0], g.port, g.run_dir];"
    "pathlib.Path(sys.argv[1], f'{g.rank}.json').write_text(json.dumps(reported))"
)


def reported(slurm, folder, *options):
    argv = ["srun", "-N2", "--ntasks-per-node=2", "-Cgpu", *options, sys.executable, "-c", TELL, str(folder)]
    done = subprocess.run(argv, env=slurm, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("options", [("--mpi=pmi2",), ("--mpi=none",)], ids=["mpi", "slurm"])
def test_ranks_places_address_port_and_run_folder_agree(slurm, tmp_path, options):
    groups = reported(slurm, tmp_path, *options)

    assert [group[0] for group in groups] == [0, 1, 2, 3]
    assert [group[2] for group in groups] == [0, 1, 0, 1]
    assert {tuple(group[1:2] + group[3:4]) for group in groups} == {(4, 2)}
    assert len({tuple(group[4:]) for group in groups}) == 1


def test_a_torch_program_starts_under_srun_without_torchrun(slurm, tmp_path):
    argv = ["srun", "-N2", "--ntasks-per-node=1", "-Cgpu", "--mpi=pmi2", sys.executable, "-m"]
    program = ["quatrain.hpc.rendezvous", "-m", "pieces", str(tmp_path)]

    done = subprocess.run([*argv, *program], env=slurm, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stderr
    places = [json.loads(path.read_text()) for path in sorted(tmp_path.iterdir())]
    assert [(place["rank"], place["sum"]) for place in places] == [(0, 1), (1, 1)]
    assert {place["node"] for place in places} == {"nid001", "nid002"}


def test_the_port_that_slurm_alone_gives_is_in_the_known_range(slurm, tmp_path):
    assert all(FIRST_PORT <= group[5] < FIRST_PORT + 2000 for group in reported(slurm, tmp_path, "--mpi=none"))
