"""SuperSAM: make SAM a weight-sharing supernet, train it, search it, and take the best sub-network out."""

from __future__ import annotations

import sys
from typing import Any

import cattrs

from quatrain.hpc import cli, tasks
from quatrain.hpc.plan import Step
from quatrain.nas.comparison import depth_only, nas_rows, outcome, width_only
from quatrain.nas.config import PRESETS, NasConfig
from quatrain.nas.inputs import check_inputs
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.search import Search
from quatrain.supernet.space import Space
from quatrain.workflows._check import notice
from quatrain.workflows._nets import explore, publish


def plan(config: NasConfig) -> tuple[Step, ...]:
    """Return the steps with rough seconds per task on one worker."""
    step_s, image_s = (1.6, 0.05) if config.model == "vit_mini" else (12, 0.3)
    measured_s = max(1.0, config.images * config.parts[1] * image_s)
    return (
        Step(name="prepare", shape="gpu", count=1, seconds=10 + 14 * config.few_shot_images * image_s),
        Step(name="train", shape="block", count=len(config.roles), seconds=config.train.steps * step_s, resumable=True),
        Step(name="search", shape="gpu", count=config.search.evaluations + 18, seconds=measured_s),
        Step(name="table", shape="gpu", count=15 + config.search.random_in_bucket, seconds=1.5 * measured_s),
        Step(name="latency", shape="gpu", count=1, seconds=30),
        Step(name="deliver", shape="gpu", count=1, seconds=10),
    )


def work(config: NasConfig, session: cli.Session) -> None:
    """Prepare, train, search, measure and deliver."""
    run, sam = session.run, shape(config.model)
    if line := notice(config.data, "nas"):
        session.show.say(line)
    measure = session.app(tasks.measure_subnet, shape="gpu", name="measure")
    space = cattrs.structure(train(config, session)["space"], Space)
    bounds = Bounds.parse(sam, max_params=config.search.max_params, max_macs=config.search.max_macs)
    search = Search(
        space=space,
        bounds=bounds,
        journal=run.path / "search.jsonl",
        seed=session.seed,
        budget=config.search.evaluations,
        engine=config.search.engine,
    )
    restricted = [*depth_only(space, bounds, session.seed), *width_only(space, bounds, session.seed)]
    explore("search", search, restricted, measure, session)
    planned = nas_rows(config, sam, space, search, bounds, session.seed)
    best = next(row.subnet for row in planned if row.name == "best")
    lines = publish(planned, search, measure, session)
    delivered = session.app(tasks.deliver_subnet, shape="gpu", name="deliver")(run.path, best.key).result()
    run.summarise(**outcome(lines, search, best, delivered), workers=session.workers("gpu"))


def train(config: NasConfig, session: cli.Session) -> dict[str, Any]:
    """Train the supernet and its baselines, each on its own block; return the summary keys of the study."""
    run = session.run
    with session.show.task("prepare"):
        prepare = session.app(tasks.prepare_study, shape="gpu", name="prepare")
        prepared = prepare(run.path, config, session.seed).result()
    facts = {"data": config.data, "model": config.model, **prepared}
    run.summarise(**facts)
    if skipped := prepared["skipped"]:
        session.show.say(f"{len(skipped)} skipped ({run.path / 'summary.json'} has all): {'; '.join(skipped[:3])}")
    start = session.app(tasks.train_network, shape="block", name="train")
    for future in [start(run.path, role, config.train) for role in config.roles]:
        future.result()
    return facts


def main(argv: list[str] | None = None) -> int:
    """Run the nas workflow with command-line arguments; return its exit code."""
    workflow = cli.Workflow(
        name="nas",
        description=(__doc__ or ""),
        presets=PRESETS,
        plan=plan,
        check=check_inputs,
        work=work,
        report=tasks.report_study,
    )
    return cli.main(workflow, argv)


if __name__ == "__main__":
    sys.exit(main())
