"""OpenTuner as an engine: its default bandit of techniques, with its side effects on the process contained.

OpenTuner 0.8.8 draws from the global random state, reconfigures the root logger, writes opentuner.log, replaces
logging.Formatter, warns at every proposal on SQLAlchemy 2, and fails when it compares networks without a result. The
engine keeps its own random state and in-memory database, and replaces the comparison.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quatrain.seeding import derive, numpy_rng
from quatrain.supernet.space import Space, Subnet

_formatter = logging.Formatter
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated declarations, its own and those of future and SQLAlchemy
    import opentuner
    from opentuner.api import TuningRunManager
    from opentuner.measurement.inputmanager import FixedInputManager
    from opentuner.resultsdb.models import Result
    from opentuner.search import bandittechniques, evolutionarytechniques, simplextechniques, technique
    from opentuner.search.differentialevolution import DifferentialEvolutionAlt, PopulationMember
    from opentuner.search.manipulator import BooleanParameter, ConfigurationManipulator, IntegerParameter
    from opentuner.search.objective import MinimizeTime

    technique.all_techniques()  # imports the rest of its modules now
logging.Formatter = _formatter  # type: ignore[misc]  # restore what the import replaced
opentuner.tuningrunmain.init_logging = lambda: None  # would configure the root logger and open opentuner.log
logging.getLogger("opentuner").setLevel(logging.CRITICAL)

_BANDIT = "quatrain-bandit"


class _Objective(MinimizeTime):  # type: ignore[misc]  # opentuner ships no types
    """Lower time is better and the latest counts; a network without a result compares as worst."""

    def config_compare(self, config1: Any, config2: Any) -> int:
        first, second = self._time(config1), self._time(config2)
        return (first > second) - (first < second)

    def _time(self, config: Any) -> float:
        results = self.driver.results_query(config=config)
        return max(((result.id, result.time) for result in results), default=(0, math.inf))[1]


class _Member(PopulationMember):  # type: ignore[misc]  # opentuner ships no types
    """A population member whose hash and age are counters instead of addresses and clocks."""

    def __init__(self, config: Any, number: int, ages: Iterator[int]) -> None:
        super().__init__(config, submitted=False)
        self._number, self._ages = number, ages
        self.touch()

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other

    def touch(self) -> None:
        self.timestamp = next(self._ages)


class _Evolution(DifferentialEvolutionAlt):  # type: ignore[misc]  # opentuner ships no types
    """OpenTuner's differential evolution, the same in every process under one seed."""

    def initial_population(self) -> None:
        ages = itertools.count()
        draw, size = self.manipulator.random, self.population_size
        self.population = [_Member(self.driver.get_configuration(draw()), number, ages) for number in range(size)]


technique.register(
    bandittechniques.AUCBanditMetaTechnique(
        [
            _Evolution(),
            evolutionarytechniques.UniformGreedyMutation(),
            evolutionarytechniques.NormalGreedyMutation(mutation_rate=0.3),
            simplextechniques.RandomNelderMead(),
        ],
        name=_BANDIT,
    )
)


class OpenTunerEngine:
    """OpenTuner's bandit over width indices and drop switches (SuperSAM, section on the program autotuner).

    A block's width is an ordered integer, dropping it a boolean. OpenTuner's techniques repeat themselves in small
    spaces. So networks are drawn at random once half of the space was proposed, and while all techniques wait.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = numpy_rng(seed, "opentuner fallback")
        self._random_state = random.Random(derive(seed, "opentuner")).getstate()
        self._thread = threading.get_ident()
        self._pending: dict[str, list[Any]] = {}
        self._proposed: set[str] = set()
        with self._contained():
            self._manager = _manager(space)

    def ask(self) -> Subnet:
        """Return the bandit's next network, or a random one if it has none."""
        desired = None
        if 2 * len(self._proposed) < self._space.size():
            with self._contained():
                desired = self._manager.get_next_desired_result()
        if desired is None:
            return self._space.sample(self._rng)
        subnet = _decode(self._space, desired.configuration.data)
        self._proposed.add(subnet.key)
        self._pending.setdefault(subnet.key, []).append(desired)
        return subnet

    def tell(self, subnet: Subnet, score: float) -> None:
        """Report a score to the techniques that proposed the network."""
        waiting = self._pending.pop(subnet.key, [])
        with self._contained():
            for desired in waiting:
                self._manager.report_result(desired, Result(time=1.0 - score))
            if not waiting:
                self._report_unrequested(subnet, score)

    def _report_unrequested(self, subnet: Subnet, score: float) -> None:
        """Enter a result without a request, better by one ulp: it must beat the proposal it was repaired from."""
        manager = self._manager
        configuration = manager.search_driver.get_configuration(_encode(self._space, subnet))
        result = Result(time=math.nextafter(1.0 - score, -math.inf), configuration=configuration)
        manager.measurement_driver.report_result(argparse.Namespace(configuration=configuration), result)

    @contextmanager
    def _contained(self) -> Iterator[None]:
        if threading.get_ident() != self._thread:
            raise RuntimeError("OpenTuner works only in the thread that made the engine")
        outside = random.getstate()
        random.setstate(self._random_state)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SQLAlchemy 2 warns of OpenTuner's models at every proposal
                yield
        finally:
            self._random_state = random.getstate()
            random.setstate(outside)


def _manager(space: Space) -> Any:
    arguments = argparse.ArgumentParser(parents=opentuner.argparsers()).parse_args(
        ["--database=sqlite:///:memory:", f"--technique={_BANDIT}", "--parallelism=1", "--quiet", "--no-dups"]
    )
    interface = opentuner.MeasurementInterface(
        args=arguments, manipulator=_manipulator(space), objective=_Objective(), input_manager=FixedInputManager()
    )
    return TuningRunManager(interface, arguments)


def _manipulator(space: Space) -> Any:
    manipulator = ConfigurationManipulator()
    for block, widths in enumerate(space.choices):
        if len(widths) > 1:
            manipulator.add_parameter(IntegerParameter(f"width {block:02d}", 0, len(widths) - 1))
        if block in space.removable:
            manipulator.add_parameter(BooleanParameter(f"drop {block:02d}"))
    return manipulator


def _decode(space: Space, configuration: dict[str, Any]) -> Subnet:
    widths = []
    for block, choices in enumerate(space.choices):
        dropped = configuration.get(f"drop {block:02d}", False)
        widths.append(0 if dropped else choices[configuration.get(f"width {block:02d}", 0)])
    return Subnet(widths=tuple(widths))


def _encode(space: Space, subnet: Subnet) -> dict[str, Any]:
    configuration: dict[str, Any] = {}
    for block, (choices, width) in enumerate(zip(space.choices, subnet.widths, strict=True)):
        if len(choices) > 1:
            configuration[f"width {block:02d}"] = choices.index(width) if width else 0
        if block in space.removable:
            configuration[f"drop {block:02d}"] = not width
    return configuration
