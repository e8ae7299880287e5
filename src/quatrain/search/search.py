"""The search: proposals within bounds, no network twice, and a journal from which it resumes after a crash."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from quatrain.errors import UsageError
from quatrain.files import append_line, fingerprint, read_lines
from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import make_engine
from quatrain.search.evaluations import Evaluation, Trial, joined, pareto
from quatrain.search.halving import Halving
from quatrain.search.neighbours import repair, within
from quatrain.seeding import numpy_rng
from quatrain.supernet.cost import encoder_macs, encoder_parameters
from quatrain.supernet.space import Space, Subnet

log = logging.getLogger(__name__)

_PATIENCE = 20
"""Known proposals in a row before the search looks for a new network itself."""
_SET_ASIDE = 0.0
"""The score that the engine learns for a network that could not be measured."""


class Search:
    """Proposes sub-networks and records their results; any number may be measured at once, from one thread.

    `budget` is the number of proposals, `objective` the metric to maximise, `engine` the name of the engine. With
    `rungs` (ascending numbers of images, the last is all of them) networks are measured by successive halving, see
    quatrain.search.halving; without, on all images at once.

    The journal holds proposals and results in their order. A search over an existing journal replays them to its engine
    in that order, so its state is the same. Networks that were proposed but never recorded are proposed again first.

    Raise UsageError if the bounds admit no network, there is no such engine, or the journal is of another search.
    """

    def __init__(
        self,
        *,
        space: Space,
        bounds: Bounds,
        journal: str | os.PathLike[str],
        seed: int,
        budget: int,
        engine: str = "opentuner",
        objective: str = "miou_oracle",
        rungs: Sequence[int] = (),
        eta: int = 3,
    ) -> None:
        if budget < 0:
            raise ValueError(f"budget is {budget}; it must be at least 0 proposals")
        bounds.check(space)
        self._space, self._bounds, self._journal, self._seed = space, bounds, journal, seed
        self._budget, self._objective = budget, objective
        self._engine = make_engine(engine, space, bounds, seed)
        self._halving = Halving(rungs, eta)
        self._known: dict[str, Evaluation] = {}
        self._parts: dict[str, Evaluation] = {}
        self._aside: dict[str, str] = {}
        self._learnt: dict[str, float] = {}  # the latest score that the engine learnt
        self._shifts: dict[int, list[float]] = {images: [] for images in rungs}
        self._handed_out: dict[str, Trial] = {}
        self._baselines: set[str] = set()
        self._waiting: dict[
            str, list[Subnet]
        ] = {}  # proposals of the engine, by the network that they were repaired to
        self._left_over: deque[Trial] = deque()
        self._proposals = 0
        self._exhausted = False
        self._rest = within(space, bounds)
        self._resume(self._header(engine, eta))

    @property
    def bounds(self) -> Bounds:
        """The limits for every proposal."""
        return self._bounds

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Every network measured on all images, in the order recorded."""
        return tuple(self._known.values())

    @property
    def measured(self) -> tuple[Evaluation, ...]:
        """Every network measured on any images, with its latest figures, in the order of their first result."""
        return tuple({**self._parts, **self._known}.values())

    @property
    def aside(self) -> dict[str, str]:
        """The networks that could not be measured, and why."""
        return dict(self._aside)

    @property
    def left(self) -> int:
        """The number of proposals left, including those to repeat after an interruption."""
        return max(0, self._budget - self._proposals) + len(self._left_over)

    def propose(self) -> Trial | None:
        """Return the next measurement within the bounds; None at the end, or until more results are recorded.

        It is a new network, or one that is promoted to more images.
        """
        if self._left_over:
            return self._left_over.popleft()
        trial = self._next()
        if trial is not None:
            line = {"event": "propose", "key": trial.subnet.key, "first": trial.first, "last": trial.last}
            append_line(self._journal, line)
            self._hand_out(trial)
        return trial

    def baseline(self, subnet: Subnet) -> Trial | None:
        """Return the measurement that a baseline network needs, outside of the budget.

        None if the network is known, being measured or set aside.
        """
        self._space.check(subnet)
        if subnet.key in self._known or subnet.key in self._aside or self._is_under_way(subnet):
            return None
        self._baselines.add(subnet.key)
        rungs = self._halving.rungs
        for images in rungs:
            self._halving.promote(subnet.key, images)
        done = max((images for images in rungs if self._halving.score(subnet.key, images) is not None), default=0)
        return Trial(subnet=subnet, first=done, last=rungs[-1] if rungs else None)

    def record(self, trial: Trial, metrics: Mapping[str, float]) -> Evaluation:
        """Record a result, on disk before this returns; return the network's figures over all images so far.

        The network need not have been proposed. Raise ValueError if it has a result already, is not of the space, or
        the objective is missing or not finite.
        """
        subnet = trial.subnet
        self._space.check(subnet)
        if subnet.key in self._known:
            raise ValueError(f"{subnet.key} has a result already; call known() before an evaluation")
        figures = {name: float(value) for name, value in metrics.items()}
        if trial.first:
            figures = joined(self._parts[subnet.key].metrics, figures)
        evaluation = self._evaluation(subnet, figures)
        line: dict[str, Any] = {
            "event": "record",
            "key": subnet.key,
            "params": evaluation.params,
            "macs": evaluation.macs,
            "metrics": evaluation.metrics,
            "proposed": evaluation.proposed,
        }
        if self._is_whole(trial):
            append_line(self._journal, line)
            self._learn(evaluation)
        else:
            append_line(self._journal, {**line, "event": "part", "last": trial.last})
            self._learn_part(evaluation, trial.last or 0)
        return evaluation

    def set_aside(self, trial: Trial, reason: str) -> None:
        """Exclude a network that cannot be measured; the search continues."""
        append_line(self._journal, {"event": "aside", "key": trial.subnet.key, "reason": reason})
        self._give_up(trial.subnet, reason)

    def known(self, subnet: Subnet) -> Evaluation | None:
        """Return the result of `subnet` on all images, or None."""
        return self._known.get(subnet.key)

    def best(self) -> Evaluation | None:
        """Return the highest score within the bounds; of equal ones the smallest network; None before any result."""
        admitted = [found for found in self._known.values() if self._bounds.admits(found.subnet)]
        return min(admitted, key=lambda found: (-found.score, found.params, found.subnet.key), default=None)

    def pareto(self) -> tuple[Evaluation, ...]:
        """Return the front of parameters (fewer) against score (higher) over every result, bounds or not."""
        return pareto(self._known.values(), lambda found: (found.params, found.score))

    def _next(self) -> Trial | None:
        return self._promotion() or self._new() or self._promotion(last_call=True)

    def _promotion(self, *, last_call: bool = False) -> Trial | None:
        found = self._halving.promotion(last_call=last_call)
        return found and Trial(subnet=Subnet.parse(found[0]), first=found[1], last=found[2])

    def _new(self) -> Trial | None:
        if self._exhausted or self._proposals >= self._budget:
            return None
        subnet = self._draw()
        if subnet is None:
            self._exhausted = True
            return None
        return Trial(subnet=subnet, last=next(iter(self._halving.rungs), None))

    def _draw(self) -> Subnet | None:
        for _ in range(_PATIENCE):
            proposal = self._engine.ask()
            subnet = repair(self._space, self._bounds, proposal, self._seed)
            if subnet.key in self._learnt:
                self._engine.tell(proposal, self._learnt[subnet.key])
                continue
            self._waiting.setdefault(subnet.key, []).append(proposal)
            if not self._is_under_way(subnet):
                return subnet
        return self._draw_alone()

    def _draw_alone(self) -> Subnet | None:
        rng = numpy_rng(self._seed, "instead of the engine", self._proposals)
        for _ in range(_PATIENCE):
            subnet = repair(self._space, self._bounds, self._space.sample(rng), self._seed)
            if self._is_new(subnet):
                return subnet
        return next(filter(self._is_new, self._rest), None)

    def _is_new(self, subnet: Subnet) -> bool:
        return subnet.key not in self._learnt and not self._is_under_way(subnet)

    def _is_under_way(self, subnet: Subnet) -> bool:
        return subnet.key in self._handed_out or subnet.key in self._baselines

    def _is_whole(self, trial: Trial) -> bool:
        return trial.last is None or trial.last == self._halving.rungs[-1]

    def _hand_out(self, trial: Trial) -> None:
        self._handed_out[trial.subnet.key] = trial
        if trial.first:
            self._halving.promote(trial.subnet.key, trial.first)
        else:
            self._proposals += 1

    def _evaluation(self, subnet: Subnet, figures: dict[str, float]) -> Evaluation:
        score = figures.get(self._objective, math.nan)
        if not math.isfinite(score):
            raise ValueError(f"{self._objective} of {subnet.key} is {score}; give a finite number for the objective")
        sam = self._bounds.sam
        return Evaluation(
            subnet=subnet,
            params=encoder_parameters(sam, subnet),
            macs=encoder_macs(sam, subnet),
            metrics=figures,
            score=score,
            proposed=subnet.key in self._handed_out,
        )

    def _learn(self, evaluation: Evaluation) -> None:
        key, score = evaluation.subnet.key, evaluation.score
        self._known[key] = evaluation
        for images in self._halving.rungs:
            if (part := self._halving.score(key, images)) is not None:
                self._shifts[images].append(score - part)
        self._guide(evaluation.subnet, score)

    def _learn_part(self, evaluation: Evaluation, images: int) -> None:
        """Learn a score on some images, corrected by the mean difference of networks with scores on all."""
        self._parts[evaluation.subnet.key] = evaluation
        self._halving.add(evaluation.subnet.key, images, evaluation.score)
        shifts = self._shifts[images]
        self._guide(evaluation.subnet, evaluation.score + (math.fsum(shifts) / len(shifts) if shifts else 0.0))

    def _give_up(self, subnet: Subnet, reason: str) -> None:
        self._aside[subnet.key] = reason
        self._guide(subnet, _SET_ASIDE)

    def _guide(self, subnet: Subnet, score: float) -> None:
        """Pass a score to the engine, for the networks that it proposed."""
        self._handed_out.pop(subnet.key, None)
        self._baselines.discard(subnet.key)
        self._learnt[subnet.key] = score
        proposals = self._waiting.pop(subnet.key, [])
        for proposal in proposals:
            self._engine.tell(proposal, score)
        if subnet not in proposals and self._bounds.admits(subnet):
            self._engine.tell(subnet, score)

    def _header(self, engine: str, eta: int) -> dict[str, Any]:
        return {
            "event": "start",
            "model": self._bounds.sam.name,
            "space": fingerprint(self._space),
            "engine": engine,
            "seed": self._seed,
            "max_params": self._bounds.max_params,
            "max_macs": self._bounds.max_macs,
            "max_latency_ms": self._bounds.max_latency_ms,
            "objective": self._objective,
            "rungs": list(self._halving.rungs),
            "eta": eta if self._halving.rungs else None,
        }

    def _resume(self, header: dict[str, Any]) -> None:
        lines = list(read_lines(self._journal))
        if not lines:
            append_line(self._journal, header)
            return
        for name, ours in header.items():
            theirs = lines[0].get(name)
            if theirs != ours:
                raise UsageError(
                    f"{os.fspath(self._journal)} is of a search with {name} {theirs!r}, this one has {ours!r}; "
                    "repeat its settings or search in another run folder"
                )
        self._replay(lines[1:])
        self._left_over.extend(self._handed_out.values())

    def _replay(self, lines: list[dict[str, Any]]) -> None:
        in_step = True
        for line in lines:
            subnet = Subnet.parse(line["key"])
            if line["event"] == "record":
                self._learn(self._evaluation(subnet, line["metrics"]))
            elif line["event"] == "part":
                self._learn_part(self._evaluation(subnet, line["metrics"]), line["last"])
            elif line["event"] == "aside":
                self._give_up(subnet, line["reason"])
            else:
                trial = Trial(subnet=subnet, first=line["first"], last=line["last"])
                if in_step and self._next() != trial:
                    in_step = False  # another version of the engine; known results are kept
                    log.warning(
                        "%s: the engine no longer proposes the journal's networks; it continues from the results",
                        self._journal,
                    )
                self._hand_out(trial)
