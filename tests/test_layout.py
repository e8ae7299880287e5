"""The shape of the repository: what is packaged and which way imports point."""

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


def module(path):
    """The import path of a source file."""
    package, tree = next((p, t) for p, t in sorted(TREES.items(), reverse=True) if path.is_relative_to(ROOT / t))
    parts = path.relative_to(ROOT / tree).with_suffix("").parts
    return ".".join([package, *(part for part in parts if part != "__init__")])


MODULES = {path: module(path) for path in SOURCES}


def targets(path):
    """The modules of the package that a module imports, wherever in it."""
    known = set(MODULES.values())
    for name in imports(path):
        while within(name, "quatrain") and name not in known:
            name = name.rpartition(".")[0]
        if name in known and name != MODULES[path]:
            yield name


def folder(name):
    return ".".join(name.split(".")[:2])


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

    assert "SLURM" not in text.upper()
    assert path.stem not in sys.stdlib_module_names


RANKS = {"workflows": 0, "hpc": 1, "nas": 2, "micrograph": 2, "graph": 2, "search": 3, "supernet": 4, "sam": 5}
RANKS |= {"data": 6, "report": 6}
GROUND = 7
"""Rank of the single files of the package, such as files.py."""


def rank(name):
    """The rank of the folder that holds a module of the package; imports point to higher ranks only."""
    parts = name.split(".")
    return RANKS.get(parts[1], GROUND) if len(parts) > 1 else GROUND


@pytest.mark.parametrize("path", SCIENCE, ids=names)
def test_imports_point_one_way(path):
    own = MODULES[path]
    if own == "quatrain":
        return  # the public API imports from every folder, inside its functions
    higher = [name for name in targets(path) if rank(name) < rank(own)]
    beside = [name for name in targets(path) if rank(name) == rank(own) < GROUND and folder(name) != folder(own)]

    assert not higher
    assert not beside


def test_no_module_imports_itself_through_others():
    graph = {MODULES[path]: {name for name in targets(path) if name in MODULES.values()} for path in SOURCES}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way[under_way.index(name) :], name])
        if name not in done:
            under_way.append(name)
            for other in sorted(graph[name]):
                visit(other)
            under_way.pop()
            done.add(name)

    for name in sorted(graph):
        visit(name)


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=names)
def test_the_folders_of_a_checkout_are_not_imported_by_their_bare_names(path):
    assert not [name for name in imports(path) if name.partition(".")[0] in ("hpc", "workflows", "site_configs")]
