"""The search: proposals within bounds, no network twice, and a journal from which it goes on after any crash."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quatrain.errors import UsageError
from quatrain.records import append_line, fingerprint, read_lines
from quatrain.search.bounds import Bounds
from quatrain.search.engine import make_engine
from quatrain.search.moves import repair, within
from quatrain.search.pareto import pareto
from quatrain.seeding import numpy_rng
from quatrain.supernet.shapes import encoder_macs, encoder_parameters
from quatrain.supernet.subnet import Space, Subnet

log = logging.getLogger(__name__)

_PATIENCE = 20
"""Proposals in a row that are known already before the search looks for a new network itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A sub-network and what was measured of it."""

    subnet: Subnet
    params: int
    """Parameters of its image encoder."""
    macs: int
    """Multiply-accumulates of its image encoder for one image."""
    metrics: dict[str, float]
    """Measured figures by name."""
    score: float
    """The metric that the search raises."""
    proposed: bool
    """Whether the search proposed it; a baseline is recorded without that."""


class Search:
    """Proposes sub-networks and remembers every result; any number may be in flight, from one thread.

    `budget` counts the networks proposed, `objective` names the metric to raise, `engine` who proposes.

    The journal holds proposals and results in the order in which they came. A search that is made over the journal of
    an interrupted one asks and tells its engine in that same order, so both stand at the same point; networks that
    were handed out and never recorded are proposed again before anything else.

    Raises UsageError when the bounds admit no network, no engine has that name, or the journal is another search's.
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
    ) -> None:
        if budget < 0:
            raise ValueError(f"budget is {budget}; it must be at least 0 proposals")
        bounds.check(space)
        self._space, self._bounds, self._journal, self._seed = space, bounds, journal, seed
        self._budget, self._objective = budget, objective
        self._engine = make_engine(engine, space, seed)
        self._known: dict[str, Evaluation] = {}
        self._handed_out: dict[str, Subnet] = {}
        self._waiting: dict[str, list[Subnet]] = {}  # what the engine proposed, by the network it was repaired to
        self._left_over: deque[Subnet] = deque()
        self._proposals = 0
        self._rest = within(space, bounds)
        self._resume(self._header(engine))

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Every result, in the order recorded."""
        return tuple(self._known.values())

    @property
    def in_flight(self) -> tuple[Subnet, ...]:
        """The networks handed out by this object and not recorded yet."""
        return tuple(subnet for subnet in self._handed_out.values() if subnet not in self._left_over)

    @property
    def left(self) -> int:
        """How many more networks the budget allows, those left over from an interrupted search among them."""
        return max(0, self._budget - self._proposals) + len(self._left_over)

    def propose(self) -> Subnet | None:
        """Return a new network within the bounds; None when the budget is spent or no such network is left."""
        if self._left_over:
            return self._left_over.popleft()
        if self._proposals >= self._budget:
            return None
        subnet = self._draw()
        if subnet is not None:
            append_line(self._journal, {"event": "propose", "key": subnet.key})
            self._hand_out(subnet)
        return subnet

    def record(self, subnet: Subnet, metrics: Mapping[str, float]) -> Evaluation:
        """Remember a result, on disk before this returns; the network need not have been proposed.

        Raise ValueError when it has a result already, is not of the space, or the objective is missing or not finite.
        """
        self._space.check(subnet)
        if subnet.key in self._known:
            raise ValueError(f"{subnet.key} has a result already; ask known() before evaluating a network")
        evaluation = self._evaluation(subnet, metrics)
        append_line(
            self._journal,
            {
                "event": "record",
                "key": subnet.key,
                "params": evaluation.params,
                "macs": evaluation.macs,
                "metrics": evaluation.metrics,
                "proposed": evaluation.proposed,
            },
        )
        self._learn(evaluation)
        return evaluation

    def known(self, subnet: Subnet) -> Evaluation | None:
        """Return the result of `subnet`, or None when it has none."""
        return self._known.get(subnet.key)

    def best(self) -> Evaluation | None:
        """Return the highest score within the bounds; of equal ones the smallest network; None before any result."""
        admitted = [found for found in self._known.values() if self._bounds.admits(found.subnet)]
        return min(admitted, key=lambda found: (-found.score, found.params, found.subnet.key), default=None)

    def pareto(self) -> tuple[Evaluation, ...]:
        """Return the front of parameters (fewer) against score (higher) over every result, bounds or not."""
        return pareto(self._known.values(), lambda found: (found.params, found.score))

    def _draw(self) -> Subnet | None:
        for _ in range(_PATIENCE):
            proposal = self._engine.ask()
            subnet = repair(self._space, self._bounds, proposal, self._seed)
            if subnet.key in self._known:
                self._engine.tell(proposal, self._known[subnet.key].score)
                continue
            self._waiting.setdefault(subnet.key, []).append(proposal)
            if subnet.key not in self._handed_out:
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
        return subnet.key not in self._known and subnet.key not in self._handed_out

    def _hand_out(self, subnet: Subnet) -> None:
        self._handed_out[subnet.key] = subnet
        self._proposals += 1

    def _evaluation(self, subnet: Subnet, metrics: Mapping[str, float]) -> Evaluation:
        figures = {name: float(value) for name, value in metrics.items()}
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
        subnet, score = evaluation.subnet, evaluation.score
        self._known[subnet.key] = evaluation
        self._handed_out.pop(subnet.key, None)
        proposals = self._waiting.pop(subnet.key, [])
        for proposal in proposals:
            self._engine.tell(proposal, score)
        if subnet not in proposals and self._bounds.admits(subnet):
            self._engine.tell(subnet, score)

    def _header(self, engine: str) -> dict[str, Any]:
        return {
            "event": "start",
            "model": self._bounds.sam.name,
            "space": fingerprint(self._space),
            "engine": engine,
            "seed": self._seed,
            "max_params": self._bounds.max_params,
            "max_macs": self._bounds.max_macs,
            "objective": self._objective,
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
                continue
            if in_step and self._draw() != subnet:
                in_step = False  # another version of the engine; what is known stays known
                log.warning(
                    "%s: the engine no longer proposes the journal's networks; it goes on afresh", self._journal
                )
            self._hand_out(subnet)
