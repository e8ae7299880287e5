"""Semantic boosting: label maps of materials for folders of micrographs, from SAM's overlapping masks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from typing import Any

from quatrain.hpc import cli, tasks
from quatrain.hpc.plan import Step
from quatrain.hpc.worker import MachineError, TaskError
from quatrain.micrograph.config import PRESETS, BatchConfig
from quatrain.workflows._check import notice


def plan(config: BatchConfig) -> tuple[Step, ...]:
    """Return the tasks of a run with rough seconds per task on one worker; images are counted without opening them."""
    from quatrain.micrograph.inputs import check, count

    check(config)
    image_s = 4 if config.masks.model == "vit_mini" or config.masks.source != "sam" else 60
    images = count(config)
    return (Step(name="boost", shape="gpu", count=-(-images // config.chunk), seconds=image_s * config.chunk),)


def work(config: BatchConfig, session: cli.Session) -> int:
    """Boost every image that has no result yet, write the report, and return how many images failed."""
    from quatrain.micrograph import inputs, stages

    run = session.run
    if line := notice(config.data, "boost"):
        session.show.say(line)
    items = inputs.find(config)
    outcomes = {item.name: done for item in items if (done := stages.finished(run.path, item))}
    session.show.task("boost", total=len(items))
    session.show.advance("boost", len(outcomes))
    start = session.app(tasks.boost_images, shape="gpu", name="boost", remember=False)
    chunks = list(stages.chunks(run.path, config, items))
    for again in (False, True):  # a chunk whose worker died is repeated image by image
        lost: list[Any] = []
        futures = {start(run.path, config, chunk, session.seed): chunk for chunk in chunks}
        for future in as_completed(futures):
            new = _outcomes(future, futures[future], lost, again)
            outcomes |= {outcome["name"]: outcome for outcome in new}
            session.show.advance("boost", len(new), note=_note(outcomes.values()))
            run.summarise(**stages.summary([outcomes[item.name] for item in items if item.name in outcomes]))
        chunks = [[item] for item in lost]
    ordered = [outcomes[item.name] for item in items]
    _report(config, session, ordered)
    failed = [outcome for outcome in ordered if outcome["state"] == "failed"]
    if failed and len(failed) == len(ordered):
        raise TaskError(f"all {len(failed)} images failed; {failed[0]['name']}: {failed[0]['error']}")
    return len(failed)


def _outcomes(future: Future[Any], chunk: Sequence[Any], lost: list[Any], again: bool) -> list[dict[str, Any]]:
    """Return the outcomes of a chunk.

    The images of a chunk whose worker died are added to `lost`, or have failed if they were tried `again`. A failure of
    the machine is raised: no image is to blame.
    """
    from quatrain.micrograph import stages

    try:
        return list(future.result())
    except MachineError:
        raise
    except TaskError as error:
        if again:
            return [stages.failed(item, str(error)) for item in chunk]
        lost += chunk
        return []


def _note(outcomes: Any) -> str:
    failed = sum(outcome["state"] == "failed" for outcome in outcomes)
    return f"{failed} failed" if failed else ""


def _report(config: BatchConfig, session: cli.Session, outcomes: list[dict[str, Any]]) -> None:
    from quatrain.micrograph import stages
    from quatrain.micrograph.outputs import write_results
    from quatrain.micrograph.report import write_report  # imports matplotlib

    run, say = session.run, session.show.say
    run.summarise(**stages.summary(outcomes), workers=session.workers("gpu"))
    write_results(run.path, outcomes)
    for outcome in outcomes:
        if outcome["state"] == "failed":
            say(f"failed: {outcome['name']}: {outcome['error']}")
        for warning in outcome.get("warnings") or ():
            say(f"warning: {outcome['name']}: {warning}")
    say(f"report: {write_report(run.path)}")
    if len(outcomes) == 1 and outcomes[0]["state"] == "done":
        say(f"overlay: {stages.show(run.path, outcomes[0]['name'], openly=config.open)}")


def main(argv: list[str] | None = None) -> int:
    """Run the boost workflow with command-line arguments; return its exit code.

    A first argument that is not a flag is the image or folder: `quatrain boost IMAGE`.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given = ["--data", *given]
    workflow = cli.Workflow(name="boost", description=(__doc__ or ""), presets=PRESETS, plan=plan, work=work)
    return cli.main(workflow, given)


if __name__ == "__main__":
    sys.exit(main())
