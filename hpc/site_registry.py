"""Sites by name: the modules of quatrain.site_configs, those of other packages, or a Python file.

Another package adds a site by an entry point of the group `quatrain.sites` that names a function returning a Site:

    [project.entry-points."quatrain.sites"]
    frontier = "my_package.frontier:site"
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib import metadata
from pathlib import Path
from types import ModuleType

from quatrain import site_configs
from quatrain.errors import UsageError, unknown
from quatrain.hpc.site import Site

GROUP = "quatrain.sites"
"""The group of entry points by which other packages add sites."""


def names() -> tuple[str, ...]:
    """Return the names of all installed sites, sorted."""
    return tuple(sorted({*_own(), *_added()}))


def _own() -> list[str]:
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(site_configs.__path__)]


def _added() -> dict[str, metadata.EntryPoint]:
    """Return the sites of other packages; a name of this package's own sites cannot be replaced."""
    found = {point.name.replace("_", "-"): point for point in metadata.entry_points(group=GROUP)}
    return {name: point for name, point in found.items() if name not in _own()}


def find(name_or_path: str) -> Site:
    """Return the site of that name, or the one that a file such as ./mine.py describes."""
    if name_or_path.endswith(".py") or "/" in name_or_path:
        return _site_of(_load(Path(name_or_path)), name_or_path)
    name = name_or_path.replace("_", "-")
    if name not in names():
        raise unknown("site", name_or_path, names())
    if name in (added := _added()):
        return _site_from(_loaded(added[name]), name_or_path)
    return _site_of(importlib.import_module(f"quatrain.site_configs.{name.replace('-', '_')}"), name_or_path)


def _loaded(point: metadata.EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:  # another package's code may raise anything
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"site {point.name!r} of an installed package does not load: {why}") from error


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no site file {str(path)!r}: give a Python file with a function site()")
    spec = importlib.util.spec_from_file_location(f"quatrain_site_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's, and may raise anything
        raise UsageError(f"site file {str(path)!r} does not load: {type(error).__name__}: {error}") from error
    return module


def _site_of(module: ModuleType, name: str) -> Site:
    make = getattr(module, "site", None)
    if not callable(make):
        raise UsageError(f"{name!r} has no function site(): write `def site() -> Site`")
    return _site_from(make, name)


def _site_from(make: object, name: str) -> Site:
    if not callable(make):
        raise UsageError(f"site {name!r} is a {type(make).__name__}: it must be a function that returns a Site")
    try:
        site = make()
    except Exception as error:  # as above
        raise UsageError(f"site() of {name!r} fails: {type(error).__name__}: {error}") from error
    if not isinstance(site, Site):
        raise UsageError(f"site() of {name!r} returns a {type(site).__name__}: it must return a quatrain.hpc.site.Site")
    return site
