"""Table of cache policies: names, facts for configuration and tuning, and the class that implements each policy.

Configuration, tuner, replay and feature path read this table. A new policy is one row here and one class. Another
package adds a row through the entry-point group `quatrain.cache_policies`, whose entry points name a `PolicySpec`.
Planning imports this module, so it uses the standard library only: a class is imported when a cache is built.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from quatrain.errors import UsageError, unknown

log = logging.getLogger(__name__)

GROUP = "quatrain.cache_policies"
"""Entry-point group for policies of other packages."""
RENAMED = {"schedule": "belady", "counts": "lfu"}
"""Old policy names, accepted for one release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicySpec:
    """One cache policy: its name, its class and the settings that it reads."""

    name: str
    factory: str
    """`module:callable`; the callable takes `PolicyInputs` and returns a `Policy`."""
    index_bytes: int
    """Bytes per candidate of the policy's arrays and of the slot table."""
    caches: bool = True
    """Whether rows are cached at all."""
    uses_interval: bool = False
    """Whether rows are replaced only every `interval` steps."""
    uses_decay: bool = False
    """Whether the policy reads `decay`."""
    looks_ahead: bool = False
    """Whether the policy needs the ids of upcoming batches."""
    window: int = 64
    """Default number of upcoming steps that the policy reads; used with `looks_ahead`."""
    candidates: tuple[str, ...] = ("halo", "remote")
    """Allowed sets of candidates, the default first."""
    carries: bool = False
    """Whether the policy can reuse rows of the previous batch (`carry`); if so, that is the default."""
    shareable: bool = True
    """Whether the trainers of a machine can share one cache."""


BUILT_IN = (
    PolicySpec(name="none", factory="quatrain.graph.features.static:StaticDegreePolicy", index_bytes=0, caches=False),
    PolicySpec(
        name="static-degree",
        factory="quatrain.graph.features.static:StaticDegreePolicy",
        index_bytes=4,
        candidates=("halo",),  # in-degrees of other vertices are unknown
    ),
    PolicySpec(
        name="presample",
        factory="quatrain.graph.features.static:PresamplePolicy",
        index_bytes=4,
        looks_ahead=True,
    ),
    PolicySpec(
        name="paper",
        factory="quatrain.graph.features.paper:PaperPolicy",
        index_bytes=13,
        uses_interval=True,
        uses_decay=True,
    ),
    PolicySpec(name="lfu", factory="quatrain.graph.features.lfu:LfuPolicy", index_bytes=8, uses_interval=True),
    PolicySpec(
        name="belady",
        factory="quatrain.graph.features.belady:BeladyPolicy",
        index_bytes=13,
        looks_ahead=True,
        window=8,
        candidates=("remote", "halo"),
        carries=True,
        shareable=False,  # it knows the upcoming steps of one trainer only
    ),
)


@cache
def policies() -> dict[str, PolicySpec]:
    """Return the table by name: the built-in policies, then those of installed packages.

    UsageError when a package's entry point cannot be imported, is not a PolicySpec or repeats a name.
    """
    table = {spec.name: spec for spec in BUILT_IN}
    for point in entry_points(group=GROUP):
        spec = _loaded(point)
        if spec.name in table:
            raise UsageError(f"{point.value} ({GROUP}): the cache policy {spec.name!r} exists already. Rename it.")
        table[spec.name] = spec
    return table


def _loaded(point: EntryPoint) -> PolicySpec:
    try:
        spec = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{point.value} ({GROUP}) cannot be imported: {error}. Fix or uninstall its package."
        ) from error
    if not isinstance(spec, PolicySpec):
        raise UsageError(f"{point.value} ({GROUP}) is a {type(spec).__name__}; it must be a PolicySpec.")
    return spec


def policy_spec(name: str) -> PolicySpec:
    """Return the table's row for a policy name or an old policy name; UsageError for an unknown one."""
    current = current_name(name)
    if current not in policies():
        raise unknown("policy", name, policies())
    return policies()[current]


def current_name(name: str) -> str:
    """Return the present name of a policy; log one line per process when `name` is an old one."""
    if name in RENAMED:
        _warn_renamed(name)
    return RENAMED.get(name, name)


@cache
def _warn_renamed(name: str) -> None:
    log.warning("deprecated: the cache policy %r is now %r; the next release drops the old name", name, RENAMED[name])
