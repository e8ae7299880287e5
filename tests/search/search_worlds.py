"""Small spaces, made-up scores and a search loop that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from quatrain.files import read_lines
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.cost import encoder_parameters, full_subnet
from quatrain.supernet.space import Space, Subnet

SAM = shape("vit_mini")
FULL = SAM.hidden
MINI = Space(
    full=full_subnet(SAM).widths,
    choices=((96, 128, 192, 288, 384),) * 12,
    removable=(1, 2, 5, 6, 9),
    drop_probability=(0.5,) * 5,
)


def small_space(widths: int, blocks: int, removable: tuple[int, ...]) -> Space:
    """Return a space in which the first `blocks` blocks have `widths` widths and the others one."""
    elastic = tuple(FULL - 64 * i for i in reversed(range(widths)))
    return Space(
        full=full_subnet(SAM).widths,
        choices=(elastic,) * blocks + ((FULL,),) * (SAM.depth - blocks),
        removable=removable,
        drop_probability=(0.5,) * len(removable),
    )


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Draw spaces of one to a few thousand networks."""
    removable = draw(st.sets(st.integers(0, SAM.depth - 1), max_size=4))
    return small_space(draw(st.integers(1, 4)), draw(st.integers(0, 4)), tuple(sorted(removable)))


@st.composite
def bounded(draw: st.DrawFn) -> tuple[Space, Bounds]:
    """Draw a space with a bound between its smallest and its largest network."""
    space = draw(spaces())
    low, high = encoder_parameters(SAM, space.smallest()), encoder_parameters(SAM, space.largest())
    return space, Bounds(sam=SAM, max_params=draw(st.integers(low, high)))


def score(subnet: Subnet) -> float:
    """Return a made-up score to which some blocks add much more than others."""
    return 0.5 + sum((width / FULL) ** 0.5 * (8, 1, 4, 2)[i % 4] for i, width in enumerate(subnet.widths)) / 100


def start(
    journal: Path,
    *,
    space: Space = MINI,
    bounds: Bounds | None = None,
    engine: str = "random",
    budget: int = 30,
    seed: int = 0,
    objective: str = "miou_oracle",
    rungs: tuple[int, ...] = (),
) -> Search:
    """Make a search over `journal`."""
    return Search(
        space=space,
        bounds=bounds or Bounds.parse(SAM, max_params="60%"),
        journal=journal,
        seed=seed,
        budget=budget,
        engine=engine,
        objective=objective,
        rungs=rungs,
    )


def run(search: Search, workers: int = 1, results: int | None = None, see: Callable[[Subnet], None] = print) -> None:
    """Search with up to `workers` networks in flight, oldest first, until the end or after `results` results."""
    flying: list[Trial] = []
    while results is None or results > 0:
        while len(flying) < workers and (trial := search.propose()) is not None:
            see(trial.subnet)
            flying.append(trial)
        if not flying:
            return
        done = flying.pop(0)
        search.record(done, {"miou_oracle": score(done.subnet)})
        results = None if results is None else results - 1


def outcome(path: Path) -> list[str]:
    """Return the networks that a journal proposes, in order."""
    return [line["key"] for line in read_lines(path) if line["event"] == "propose"]


def results(path: Path) -> list[str]:
    return [line["key"] for line in read_lines(path) if line["event"] == "record"]
