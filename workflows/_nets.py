"""Shared by the nas and autotune workflows: the search on all workers, and the table of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from quatrain.files import write_json
from quatrain.hpc import cli, tasks
from quatrain.hpc.search_loop import drive
from quatrain.nas.comparison import NetRow, known_scores, table
from quatrain.nas.inputs import unreadable
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.space import Subnet

Measure = Callable[..., "Future[dict[str, float]]"]


def publish(planned: list[NetRow], search: Search, measure: Measure, session: cli.Session) -> list[dict[str, Any]]:
    """Measure the table's networks, then the latency of each alone; write table.json and return its lines."""
    folder, figures = session.run.path, known_scores(planned, search)
    keys = dict.fromkeys(key for row in planned for key in row.measure_keys if key not in figures)
    pending = {key: measure(folder, *key) for key in keys}
    session.show.task("table", total=len(pending))
    for future in pending.values():
        future.add_done_callback(lambda _: session.show.advance("table"))
    figures |= {key: future.result() for key, future in pending.items()}
    time_all = session.app(tasks.time_subnets, shape="gpu", name="latency")
    milliseconds = time_all(folder, [row.subnet.key for row in planned]).result()
    lines = table(search.bounds.sam, planned, figures, milliseconds)
    write_json(folder / "table.json", lines)
    if bad := unreadable(folder):
        session.run.summarise(unreadable=bad)
        session.show.say(f"{len(bad)} could not be read ({folder / 'summary.json'} has all): {'; '.join(bad[:3])}")
    return lines


def explore(
    name: str, search: Search, others: Sequence[Subnet], measure: Measure, session: cli.Session, in_order: bool = False
) -> None:
    """Measure the proposals of the search on every worker, then `others`."""
    session.show.task(name, total=search.left + len(others))

    def start(trial: Trial) -> Future[Any]:
        return measure(session.run.path, "supernet", trial.subnet.key, "validation", trial.first, trial.last)

    def advance(trial: Trial) -> None:
        best = search.best()
        session.show.advance(name, int(not trial.first), note=f"best mIoU {best.score:.3f}" if best else None)

    drive(search, start, session.workers("gpu"), advance, session.show.say, baselines=others, in_order=in_order)
