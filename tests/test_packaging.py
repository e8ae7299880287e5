"""What is installed where nobody has the checkout: the wheel, built from a copy of the tree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import quatrain

ROOT = Path(__file__).parents[1]
TREES = {"quatrain": "src/quatrain", "quatrain/hpc": "hpc", "quatrain/workflows": "workflows"}
TREES["quatrain/site_configs"] = "site_configs"

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("pip", "setuptools"))), reason="pip and setuptools build the wheel"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"  # a build leaves files in its tree, and stale ones would be packed again
    for name in TREES.values():
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", folder, tree], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def packed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.getinfo(name).file_size for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def outside(installed, *arguments):
    """Run Python outside the checkout on what the wheel holds; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=installed, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(suffixes):
    """The files of the tree with these suffixes, by their place in the package, and their sizes."""
    return {
        f"{package}/{path.relative_to(ROOT / tree).as_posix()}": path.stat().st_size
        for package, tree in TREES.items()
        for path in (ROOT / tree).rglob("*")
        if path.suffix in suffixes
    }


def test_the_wheel_holds_every_module_in_its_place_and_none_besides(packed):
    assert {name for name in packed if name.endswith(".py")} == set(files({".py"}))


def test_the_wheel_holds_the_templates_of_the_report(packed):
    templates = files({".html", ".css"})

    assert {"quatrain/report/page.html", "quatrain/report/page.css"} <= set(templates)
    assert templates.items() <= packed.items()


def test_the_wheel_holds_the_weights_of_the_miniature_with_their_card_and_they_are_small(packed):
    weights, card = "quatrain/sam/weights/vit_mini.pth", "quatrain/sam/weights/vit_mini.md"

    assert {name for name in packed if "/weights/" in name} == {weights, card}
    assert files({".pth", ".md"}).items() <= packed.items()
    assert packed[weights] <= 8e6


def test_the_wheel_is_typed_and_carries_its_license(packed):
    assert "quatrain/py.typed" in packed
    assert [name for name in packed if ".dist-info/" in name and name.endswith("LICENSE")]


def test_the_wheel_installs_one_package_and_nothing_beside_it(packed, wheel):
    tops = {name.partition("/")[0] for name in packed}

    assert wheel.name.startswith(f"quatrain-{quatrain.__version__}-py3-none-any")
    assert tops == {"quatrain", f"quatrain-{quatrain.__version__}.dist-info"}


def test_the_command_runs_outside_the_checkout(installed):
    (entry,) = installed.glob("*.dist-info/entry_points.txt")

    assert "quatrain = quatrain.workflows.__main__:main" in entry.read_text()
    printed = outside(installed, "-m", "quatrain.workflows", "sites")
    assert {"local", "local-threads", "slurm", "perlmutter"} <= set(printed.split())


def test_the_installed_package_is_whole_and_light_to_import(installed):
    code = (
        "import sys, quatrain, quatrain.hpc.site, quatrain.site_configs, quatrain.workflows;"
        "from importlib.resources import files;"
        "print(files('quatrain.sam').joinpath('weights', 'vit_mini.pth').is_file(), quatrain.__file__,"
        "sorted({'torch', 'parsl', 'numpy', 'hpc', 'workflows'} & set(sys.modules)))"
    )

    assert outside(installed, "-c", code).split(maxsplit=2) == [
        "True",
        str(installed / "quatrain" / "__init__.py"),
        "[]\n",
    ]
