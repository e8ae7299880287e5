"""GraphSAGE and GAT on DistDGL with hidden communication: partition, train, and compare cache policies."""

from __future__ import annotations

import sys

from quatrain.errors import UsageError
from quatrain.files import write_json
from quatrain.graph.config import PRESETS, GnnConfig
from quatrain.hpc import cli, tasks
from quatrain.hpc.distdgl_launch import deal
from quatrain.hpc.plan import Step


def plan(config: GnnConfig) -> tuple[Step, ...]:
    """What would run, with rough seconds a task on one block."""
    made = config.made.vertices if config.data.startswith("made:") else 2_000_000
    epoch_s = 1 + made / 50_000 / config.cluster.machines
    return (
        Step(name="partition", shape="block", count=1, seconds=5 + made / 10_000),
        Step(
            name="train",
            shape="block",
            count=1 + len(config.compare),
            seconds=15 + config.train.epochs * epoch_s,
            resumable=True,
        ),
    )


def check(config: GnnConfig) -> None:
    """Raise UsageError when the graph folder cannot be used; its edges and features are not read yet."""
    if config.data.startswith("made:"):
        return
    from quatrain.graph.dataset.check import check_graph  # h5py and pandas, which planning does without

    if error := check_graph(config.data, config.split, config.split_seed).error:
        raise UsageError(error)


def fits(config: GnnConfig, nodes: int) -> None:
    """Raise UsageError when the machines cannot be dealt out evenly."""
    deal(config.cluster.machines, range(nodes))


def work(config: GnnConfig, session: cli.Session) -> None:
    """Partition, train, train with the policies to compare, report."""
    from quatrain.graph.report import write_report  # matplotlib only when there is something to draw

    run = session.run
    with session.show.task("partition"):
        cut = session.app(tasks.partition_graph, shape="block", name="partition")
        parts = cut(config, run.path.parent / "cache").result()
    session.show.say(parts["table"])
    for warning in parts["warnings"]:
        session.show.say(f"warning: {warning}")
    if parts["class_names"] is not None:
        write_json(run.path / "classes.json", dict(enumerate(parts["class_names"])))
    run.summarise(data=config.data, split=parts["split"], warnings=parts["warnings"])
    run.summarise(model=config.train.model, partition=parts["facts"])
    train = session.app(tasks.train_graph, shape="block", name="train")
    run.summarise(**train(run.path, config, session.seed, parts["parts"]).result())
    for policy in config.compare:
        other = config.with_policy(policy)
        with session.show.task(f"compare-{policy}"):
            train(run.path / "policies" / policy, other, session.seed, parts["parts"]).result()
    session.show.say(f"report: {write_report(run.path)}")


def main(argv: list[str] | None = None) -> int:
    """Run the gnn workflow, or `tune TRACE`, with command-line arguments; return the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["tune"]:
        from quatrain.workflows._gnn_tune import tune  # torch, which planning does without

        return cli.guarded(lambda: tune(given[1:]))
    workflow = cli.Workflow(
        name="gnn", description=(__doc__ or ""), presets=PRESETS, plan=plan, check=check, fits=fits, work=work
    )
    return cli.main(workflow, argv)


if __name__ == "__main__":
    sys.exit(main())
