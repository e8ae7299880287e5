"""Where the cluster's programs are missing its tests are skipped, but not where somebody counts on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONE = Path(__file__).with_name("test_mpi.py")


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("required", "error")])
def test_tests_without_a_slurm_are_skipped_or_fail_as_asked(tmp_path, required, outcome):
    words = ["-q", "-p", "no:cacheprovider", f"--rootdir={ONE.parents[2]}", str(ONE), "-k", "known_range"]
    environment = {**os.environ, "PATH": str(tmp_path), "QUATRAIN_CLUSTER_TESTS": required}

    done = subprocess.run([sys.executable, "-m", "pytest", *words], env=environment, capture_output=True, text=True)

    assert f"1 {outcome}" in done.stdout
    assert "not installed here: slurmctld" in done.stdout or "not installed here: sbatch" in done.stdout
    assert (done.returncode == 0) == (not required)
