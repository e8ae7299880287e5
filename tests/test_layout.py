"""The shape of the repository: what is packaged, which way imports point, how long things are."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
TREES = {"quatrain": "src/quatrain", "quatrain.hpc": "hpc", "quatrain.workflows": "workflows"}
TREES["quatrain.site_configs"] = "site_configs"
SCIENCE = sorted((ROOT / "src" / "quatrain").rglob("*.py"))
SOURCES = sorted(path for tree in TREES.values() for path in (ROOT / tree).rglob("*.py"))


def imports(path):
    """Every absolute name that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def names(path):
    return str(path.relative_to(ROOT))


def test_every_folder_with_modules_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = set()
    for package, tree in TREES.items():
        for init in (ROOT / tree).rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(ROOT / tree).parts]))

    assert set(project["tool"]["setuptools"]["packages"]) == found
    assert project["tool"]["setuptools"]["package-dir"] == TREES


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_every_module_lies_in_a_package(path):
    assert (path.parent / "__init__.py").exists()


@pytest.mark.parametrize("path", SCIENCE, ids=names)
def test_science_knows_neither_hpc_nor_parsl_nor_slurm(path):
    outside = ("quatrain.hpc", "quatrain.workflows", "quatrain.site_configs", "parsl")

    assert not [name for name in imports(path) if any(within(name, package) for package in outside)]
    assert "SLURM_" not in path.read_text(encoding="utf8")


@pytest.mark.parametrize("path", sorted((ROOT / "site_configs").glob("*.py")), ids=names)
def test_a_site_imports_only_what_describes_sites(path):
    own = [name for name in imports(path) if within(name, "quatrain")]

    assert all(within(name, "quatrain.hpc.site") or within(name, "quatrain.site_configs") for name in own)
    assert not [name for name in imports(path) if within(name, "parsl")]


@pytest.mark.parametrize("path", sorted((ROOT / "hpc").glob("*.py")), ids=names)
def test_hpc_does_not_know_the_workflows(path):
    assert not [name for name in imports(path) if within(name, "quatrain.workflows")]


@pytest.mark.parametrize("path", sorted((ROOT / "hpc").glob("*.py")), ids=names)
def test_slurm_variables_are_named_in_one_place(path):
    if path.name != "allocation.py":
        assert "SLURM_" not in path.read_text(encoding="utf8").replace("SLURM_EOF", "")


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.py")), ids=names)
def test_a_workflow_is_an_itinerary(path):
    text = path.read_text(encoding="utf8")

    assert len(text.splitlines()) <= 120
    assert "SLURM" not in text.upper()
    assert path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_nothing_is_too_long(path):
    text = path.read_text(encoding="utf8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert len(text.splitlines()) <= 400
    assert not [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > 60]


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=names)
def test_the_folders_of_a_checkout_are_not_imported_by_their_bare_names(path):
    assert not [name for name in imports(path) if name.partition(".")[0] in ("hpc", "workflows", "site_configs")]
