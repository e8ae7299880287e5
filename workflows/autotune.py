"""The best sub-network of a supernet within bounds on size and time, searched by every worker at once."""

from __future__ import annotations

import sys
from typing import Any

import cattrs

from quatrain.files import write_json
from quatrain.hpc import cli, tasks
from quatrain.hpc.plan import Step
from quatrain.hpc.worker import TaskError
from quatrain.nas.autotune_config import PRESETS, AutotuneConfig
from quatrain.nas.comparison import autotune_rows, bucket_of, outcome, random_baseline, size_buckets
from quatrain.nas.inputs import check_inputs
from quatrain.nas.locate import find
from quatrain.sam.registry import shape
from quatrain.search.constraints import TimeTable
from quatrain.search.halving import rungs
from quatrain.search.search import Search
from quatrain.supernet.space import Space
from quatrain.workflows import nas
from quatrain.workflows._nets import explore, publish


def plan(config: AutotuneConfig) -> tuple[Step, ...]:
    """Return the steps with rough seconds per task on one worker; UsageError if the supernet cannot be used."""
    source = None if config.supernet is None else find(config.supernet)
    if source is not None and config.max_latency_ms is None:
        config.bounds(source.sam).check(source.space)
    mini = source is None or source.sam.name == "vit_mini"
    step_s, measured_s = (1.6, 0.05 * config.images) if mini else (12, 0.3 * config.images)
    tune_s = config.finetune_steps * step_s / 4
    trained, random = len(config.training().roles) if config.supernet is None else 0, config.random_in_bucket
    return (
        Step(name="prepare", shape="gpu", count=1, seconds=20),
        Step(name="train", shape="block", count=trained, seconds=config.train_steps * step_s, resumable=True),
        Step(name="search", shape="gpu", count=config.evaluations, seconds=measured_s / config.eta),
        Step(name="random", shape="gpu", count=2 + 3 * random, seconds=measured_s),
        Step(name="tune", shape="block", count=config.finetune_steps > 0, seconds=tune_s, resumable=True),
        Step(name="table", shape="gpu", count=12 + 2 * random, seconds=measured_s),
        Step(name="deliver", shape="gpu", count=1, seconds=40),
    )


def work(config: AutotuneConfig, session: cli.Session) -> None:
    """Search the supernet, compare the best network with baselines and random networks, and deliver it."""
    run, folder = session.run, session.run.path
    facts = nas.train(config.training(), session) if config.supernet is None else adopt(config, session)
    images = session.app(tasks.eval_size, shape="gpu", name="count")(folder, "validation").result()
    run.summarise(**facts, validation_images=images)
    latency = None
    if config.max_latency_ms is not None:
        calibrate = session.app(tasks.calibrate_latency, shape="gpu", name="calibrate")
        latency = TimeTable.read(folder / calibrate(folder).result())
    space, bounds = cattrs.structure(facts["space"], Space), config.bounds(shape(facts["model"]), latency)
    search = Search(
        space=space,
        bounds=bounds,
        journal=folder / "search.jsonl",
        seed=session.seed,
        budget=config.evaluations,
        engine=config.engine,
        objective=config.objective,
        rungs=rungs(images, eta=config.eta, least=config.first_images),
        eta=config.eta,
    )
    measure = session.app(tasks.measure_subnet, shape="gpu", name="measure")
    explore("search", search, [], measure, session, in_order=config.in_order)
    best = search.best()
    if best is None:
        raise TaskError(f"none of {len(search.aside)} sub-networks could be measured: see search.jsonl in {folder}")
    buckets = size_buckets(space, bounds, search, count=config.random_in_bucket, seed=session.seed)
    others = [space.largest(), space.smallest(), *(net for bucket in buckets for net in bucket.subnets)]
    explore("random", search, others, measure, session)
    write_json(folder / "random_baseline.json", random_baseline(buckets, search))
    weights, row = ("tuned", "best, fine-tuned") if config.finetune_steps else ("supernet", "best")
    if config.finetune_steps:
        tune = session.app(tasks.tune_subnet, shape="block", name="tune")
        tune(folder, best.subnet.key, config.finetune_steps).result()
    random_nets = bucket_of(buckets, bounds, best.subnet)
    planned = autotune_rows(space, bounds, best.subnet, random_nets, run.checkpoints)
    lines = publish(planned, search, measure, session)
    deliver = session.app(tasks.deliver_subnet, shape="gpu", name="deliver")
    path = deliver(folder, best.subnet.key, weights).result()
    found = outcome(lines, search, best.subnet, path, name=row)
    run.summarise(**found, workers=session.workers("gpu"), measured=len(search.measured), aside=search.aside)
    if config.onnx:
        run.summarise(onnx=session.app(tasks.export_onnx, shape="gpu", name="export")(folder, path).result())
    session.show.say(f"best: {best.subnet.key} in {folder / path}")


def adopt(config: AutotuneConfig, session: cli.Session) -> dict[str, Any]:
    """Import the given supernet; return the summary keys of the study."""
    with session.show.task("prepare"):
        start = session.app(tasks.adopt_supernet, shape="gpu", name="adopt")
        source = find(config.supernet or "").folder
        facts: dict[str, Any] = start(session.run.path, source, config.data, config.images).result()
    return facts


def main(argv: list[str] | None = None) -> int:
    """Run the autotune workflow with command-line arguments; return its exit code."""
    workflow = cli.Workflow(
        name="autotune",
        description=(__doc__ or ""),
        presets=PRESETS,
        plan=plan,
        check=lambda config: check_inputs(config.training()),
        work=work,
        report=tasks.report_search,
    )
    return cli.main(workflow, argv)


if __name__ == "__main__":
    sys.exit(main())
