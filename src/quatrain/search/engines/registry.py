"""The search engines by name: the table ENGINES, and engines of other packages by entry point.

Another package adds an engine by an entry point of the group `quatrain.engines` that names a factory such as
`AdditiveEngine`. Its name then works wherever a built-in name does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from quatrain.errors import UsageError, unknown
from quatrain.search.constraints import Bounds
from quatrain.search.engines.additive import AdditiveEngine
from quatrain.search.engines.evolution import EvolutionEngine
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet

GROUP = "quatrain.engines"
"""The group of entry points by which other packages add engines."""


class Engine(Protocol):
    """Proposes networks and learns from their scores; used from one thread, deterministic under one seed."""

    def ask(self) -> Subnet:
        """Return a network of the space; it may be one that was returned before."""

    def tell(self, subnet: Subnet, score: float) -> None:
        """Learn the score (more is better) of any network of the space, proposed or not, in any order.

        A later score of the same network, measured on more images, replaces the earlier one.
        """


Factory = Callable[[Space, Bounds, int], Engine]
"""Makes an engine for a space, the bounds of the search and a seed."""


class RandomEngine:
    """Draws from the space as sandwich training does and learns nothing: the random baseline."""

    def __init__(self, space: Space, _bounds: Bounds, seed: int) -> None:
        self._space = space
        self._rng = numpy_rng(seed, "random engine")

    def ask(self) -> Subnet:
        """Return an independent draw."""
        return self._space.sample(self._rng)

    def tell(self, subnet: Subnet, score: float) -> None:
        """Ignore the score."""


def _opentuner(space: Space, _bounds: Bounds, seed: int) -> Engine:
    from quatrain.search.engines.opentuner import OpenTunerEngine

    return OpenTunerEngine(space, seed)


def _tpe(space: Space, bounds: Bounds, seed: int) -> Engine:
    from quatrain.search.engines.optuna import TpeEngine

    return TpeEngine(space, bounds, seed)


def _nsga2(space: Space, bounds: Bounds, seed: int) -> Engine:
    from quatrain.search.engines.optuna import Nsga2Engine

    return Nsga2Engine(space, bounds, seed)


ENGINES: dict[str, Factory] = {
    "opentuner": _opentuner,
    "additive": AdditiveEngine,
    "optuna-tpe": _tpe,
    "optuna-nsga2": _nsga2,
    "evolution": EvolutionEngine,
    "random": RandomEngine,
}
"""The built-in engines; those that need other packages import them when they are made."""


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def check_engine(name: str) -> None:
    """Raise UsageError with the nearest name if there is no engine `name`; nothing is imported."""
    if name not in ENGINES and name not in (others := _installed()):
        raise unknown("engine", name, [*ENGINES, *others])


def make_engine(name: str, space: Space, bounds: Bounds, seed: int) -> Engine:
    """Return a new engine; raise UsageError if there is no engine `name` or its package is missing.

    An engine may propose networks outside of `bounds`. It also learns the score of the network that replaced one.
    """
    check_engine(name)
    with _missing_package(name):
        factory = ENGINES[name] if name in ENGINES else cast(Factory, _installed()[name].load())
        return factory(space, bounds, seed)


@contextmanager
def _missing_package(engine: str) -> Iterator[None]:
    """Turn a missing package into a UsageError that names the package."""
    try:
        yield
    except ModuleNotFoundError as error:
        how = "pip install 'quatrain[search]'" if engine in ENGINES else "install it, or choose another engine"
        raise UsageError(f"the engine {engine!r} needs {error.name}: {how}") from error
