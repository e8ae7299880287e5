"""Optuna's samplers as engines: TPE, which models good and bad networks, and NSGA-II, which spreads over the front."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from quatrain.search.constraints import Bounds
from quatrain.search.neighbours import options
from quatrain.seeding import derive
from quatrain.supernet.cost import encoder_parameters
from quatrain.supernet.space import Space, Subnet

Direction = Literal["maximize", "minimize"]
FIRST_AT_RANDOM = 16
"""Random networks before TPE uses its model."""
POPULATION = 20
"""Networks per generation of NSGA-II; it proposes children of the last complete one without waiting."""


class _OptunaEngine:
    """An in-memory study; each block is one ordered integer, "dropped" before its narrowest width."""

    def __init__(
        self, space: Space, sampler: BaseSampler, directions: Sequence[Literal["maximize", "minimize"]]
    ) -> None:
        self._choices = [options(space, block) for block in range(space.depth)]
        self._distributions: dict[str, BaseDistribution] = {
            _name(block): IntDistribution(0, len(widths) - 1)
            for block, widths in enumerate(self._choices)
            if len(widths) > 1
        }
        self._pending: dict[str, list[optuna.Trial]] = {}
        self._finished: set[str] = set()
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # create_study logs a line
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        optuna.logging.set_verbosity(before)

    def ask(self) -> Subnet:
        """Return the sampler's proposal."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask(self._distributions)
        indices = (trial.params.get(_name(block), 0) for block in range(len(self._choices)))
        subnet = Subnet(widths=tuple(widths[i] for widths, i in zip(self._choices, indices, strict=True)))
        self._pending.setdefault(subnet.key, []).append(trial)
        return subnet

    def tell(self, subnet: Subnet, score: float) -> None:
        """Report a score; ignore a second one of the same network, because a trial ends once."""
        trials = self._pending.pop(subnet.key, [])
        for trial in trials:
            self._study.tell(trial, self._values(subnet, score))
        if not trials and subnet.key not in self._finished:
            self._study.add_trial(self._unrequested(subnet, score))
        self._finished.add(subnet.key)

    def _unrequested(self, subnet: Subnet, score: float) -> optuna.trial.FrozenTrial:
        indices = {_name(i): widths.index(subnet.widths[i]) for i, widths in enumerate(self._choices)}
        params = {name: indices[name] for name in self._distributions}
        values: Any = self._values(subnet, score)
        return optuna.trial.create_trial(params=params, distributions=self._distributions, values=values)

    def _values(self, _subnet: Subnet, score: float) -> list[float]:
        return [score]


class TpeEngine(_OptunaEngine):
    """The tree-structured Parzen estimator over all blocks; open proposals count as bad (constant liar)."""

    def __init__(self, space: Space, _bounds: Bounds, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = TPESampler(
                n_startup_trials=FIRST_AT_RANDOM,
                multivariate=True,
                constant_liar=True,
                seed=derive(seed, "tpe") % 2**32,
            )
        super().__init__(space, sampler, ["maximize"])


class Nsga2Engine(_OptunaEngine):
    """NSGA-II with two objectives: higher score, fewer parameters."""

    def __init__(self, space: Space, bounds: Bounds, seed: int) -> None:
        sampler = NSGAIISampler(population_size=POPULATION, seed=derive(seed, "nsga2") % 2**32)
        super().__init__(space, sampler, ["maximize", "minimize"])
        self._sam = bounds.sam

    def _values(self, subnet: Subnet, score: float) -> list[float]:
        return [score, float(encoder_parameters(self._sam, subnet))]


def _name(block: int) -> str:
    return f"block {block:02d}"
