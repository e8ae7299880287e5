"""Versions of the software of a run, read without importing it."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import quatrain
from quatrain.hpc import tasks

RECORDED = ("numpy", "torch", "torchvision", "segment-anything", "opentuner", "parsl", "dgl", "h5py", "tyro")

AROUND = ("hpc", "workflows", "site_configs", "report")
"""Folders of the package whose code does not change results."""


def installed() -> dict[str, str]:
    """Return the versions of quatrain, Python and the packages whose changes can change results."""
    found = {
        "quatrain": quatrain.__version__,
        "code": code(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    present = {name: version for name in RECORDED if (version := _version(name)) is not None}
    return {**found, **present}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def code() -> str:
    """Return eight hexadecimal digits of a hash of the code that computes results, including the task bodies.

    The folders in AROUND do not count, so their code may be fixed between two drivers of a run.
    """
    package = Path(quatrain.__file__).parent
    tree = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in AROUND]
    digest = hashlib.sha256()
    for path in [*sorted(tree), Path(tasks.__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def git_commit() -> dict[str, str | bool] | None:
    """Return the commit of the checkout that the package runs from and whether it was changed; None outside of one."""
    folder = Path(quatrain.__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str | None:
    command = shutil.which("git")
    if command is None:
        return None
    argv = [command, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
