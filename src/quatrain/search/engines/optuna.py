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
"""Networks that TPE draws before it models anything."""
POPULATION = 20
"""Networks of a generation of NSGA-II; children of the last whole one are proposed without waiting for the next."""


class _OptunaEngine:
    """A study in memory. Every block is one ordered integer, dropped before its narrowest width."""

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
        self._told: set[str] = set()
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # else it announces the study
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        optuna.logging.set_verbosity(before)

    def ask(self) -> Subnet:
        """Return what the sampler proposes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask(self._distributions)
        places = (trial.params.get(_name(block), 0) for block in range(len(self._choices)))
        subnet = Subnet(widths=tuple(widths[i] for widths, i in zip(self._choices, places, strict=True)))
        self._pending.setdefault(subnet.key, []).append(trial)
        return subnet

    def tell(self, subnet: Subnet, score: float) -> None:
        """Report a score; a second one for the same network is passed over, because a trial ends once."""
        trials = self._pending.pop(subnet.key, [])
        for trial in trials:
            self._study.tell(trial, self._values(subnet, score))
        if not trials and subnet.key not in self._told:
            self._study.add_trial(self._volunteered(subnet, score))
        self._told.add(subnet.key)

    def _volunteered(self, subnet: Subnet, score: float) -> optuna.trial.FrozenTrial:
        places = {_name(i): widths.index(subnet.widths[i]) for i, widths in enumerate(self._choices)}
        params = {name: places[name] for name in self._distributions}
        values: Any = self._values(subnet, score)
        return optuna.trial.create_trial(params=params, distributions=self._distributions, values=values)

    def _values(self, _subnet: Subnet, score: float) -> list[float]:
        return [score]


class TpeEngine(_OptunaEngine):
    """The tree-structured Parzen estimator over all blocks together; networks in flight count as bad ones."""

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
    """NSGA-II over two aims: more of the score, fewer parameters."""

    def __init__(self, space: Space, bounds: Bounds, seed: int) -> None:
        sampler = NSGAIISampler(population_size=POPULATION, seed=derive(seed, "nsga2") % 2**32)
        super().__init__(space, sampler, ["maximize", "minimize"])
        self._sam = bounds.sam

    def _values(self, subnet: Subnet, score: float) -> list[float]:
        return [score, float(encoder_parameters(self._sam, subnet))]


def _name(block: int) -> str:
    return f"block {block:02d}"
