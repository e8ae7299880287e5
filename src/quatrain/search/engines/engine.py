"""Who proposes the next sub-network: one small face, and the engines known by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from quatrain.errors import UsageError, unknown
from quatrain.search.constraints import Bounds
from quatrain.search.engines.additive import AdditiveEngine
from quatrain.search.engines.evolution import EvolutionEngine
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet


class Engine(Protocol):
    """Proposes networks and learns from scores; asked and told from one thread, deterministic under one seed."""

    def ask(self) -> Subnet:
        """Return a network of the space; it may be one that was returned before."""

    def tell(self, subnet: Subnet, score: float) -> None:
        """Learn the score (more is better) of any network of the space, asked for or not, in any order.

        A later score of the same network, measured on more images, takes the place of the earlier one.
        """


class RandomEngine:
    """Draws from the space as sandwich training does, and learns nothing: the yardstick of the others."""

    def __init__(self, space: Space, _bounds: Bounds, seed: int) -> None:
        self._space = space
        self._rng = numpy_rng(seed, "random engine")

    def ask(self) -> Subnet:
        """Return an independent draw."""
        return self._space.sample(self._rng)

    def tell(self, subnet: Subnet, score: float) -> None:
        """Pass over the score."""


def _opentuner(space: Space, _bounds: Bounds, seed: int) -> Engine:
    with _named("opentuner"):
        from quatrain.search.engines.opentuner import OpenTunerEngine
    return OpenTunerEngine(space, seed)


def _tpe(space: Space, bounds: Bounds, seed: int) -> Engine:
    with _named("optuna-tpe"):
        from quatrain.search.engines.optuna import TpeEngine
    return TpeEngine(space, bounds, seed)


def _nsga2(space: Space, bounds: Bounds, seed: int) -> Engine:
    with _named("optuna-nsga2"):
        from quatrain.search.engines.optuna import Nsga2Engine
    return Nsga2Engine(space, bounds, seed)


@contextmanager
def _named(engine: str) -> Iterator[None]:
    """Name the package that an engine lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"the engine {engine!r} needs {error.name}: pip install 'quatrain[search]'") from error


ENGINES: dict[str, Callable[[Space, Bounds, int], Engine]] = {
    "opentuner": _opentuner,
    "additive": AdditiveEngine,
    "optuna-tpe": _tpe,
    "optuna-nsga2": _nsga2,
    "evolution": EvolutionEngine,
    "random": RandomEngine,
}


def check_engine(name: str) -> None:
    """Raise UsageError with the nearest name unless an engine is called `name`."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)


def make_engine(name: str, space: Space, bounds: Bounds, seed: int) -> Engine:
    """Return a new engine by its name; raise UsageError when there is none or its package is missing.

    What an engine proposes may lie outside of `bounds`; it is told of what was made of it as well.
    """
    check_engine(name)
    return ENGINES[name](space, bounds, seed)
