"""Who proposes the next sub-network: one small face, and the engines known by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from quatrain.errors import UsageError, unknown
from quatrain.seeding import numpy_rng
from quatrain.supernet.subnet import Space, Subnet


class Engine(Protocol):
    """Proposes networks and learns from scores; asked and told from one thread, deterministic under one seed."""

    def ask(self) -> Subnet:
        """Return a network of the space; it may be one that was returned before."""

    def tell(self, subnet: Subnet, score: float) -> None:
        """Learn the score (more is better) of any network of the space, asked for or not, in any order."""


class RandomEngine:
    """Draws from the space as sandwich training does, and learns nothing: the yardstick of the others."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = numpy_rng(seed, "random engine")

    def ask(self) -> Subnet:
        """Return an independent draw."""
        return self._space.sample(self._rng)

    def tell(self, subnet: Subnet, score: float) -> None:
        """Pass over the score."""


def _opentuner(space: Space, seed: int) -> Engine:
    try:
        from quatrain.search.bandit import OpenTunerEngine
    except ModuleNotFoundError as error:
        raise UsageError(f"the engine 'opentuner' needs {error.name}: pip install 'quatrain[search]'") from error
    return OpenTunerEngine(space, seed)


ENGINES: dict[str, Callable[[Space, int], Engine]] = {"opentuner": _opentuner, "random": RandomEngine}


def check_engine(name: str) -> None:
    """Raise UsageError with the nearest name unless an engine is called `name`."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)


def make_engine(name: str, space: Space, seed: int) -> Engine:
    """Return a new engine by its name; raise UsageError when there is none or its package is missing."""
    check_engine(name)
    return ENGINES[name](space, seed)
