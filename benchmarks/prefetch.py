"""Epoch times of DistDGL and of each cache policy over a slow link, and the floor: all features local.

    python benchmarks/prefetch.py [--quick] [--graphs rmat community] [--mbit 200 50] [--seeds 0 1 2] [--cases NAME ...]

Two machines run in network namespaces, each with its own /dev/shm, DistDGL server and trainer. A veth pair joins them;
`tc tbf` limits its bandwidth both ways. All cases of a graph and bandwidth run in the same processes, one after the
other, and again for each seed. `stock` is DistDGL with its own sampler and no look-ahead; `floor` has a copy of all
features on both machines. All cases but stock prepare two batches ahead. Not counted are the first epoch of a case,
which warms up, and the last three, for which a policy that looks ahead has sampled before (`presample` samples in the
first epoch only). If namespaces are not allowed, both machines share a host and features come from a throttled source.
The output lines then say so: those times are not measurements of a network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import prefetch_predicted
from lines import emit
from prefetch_link import ADDRESSES, HOSTS, LINK, network, received, sleepy, throttle
from prefetch_predicted import COUNTED

from quatrain.files import read_json, write_json
from quatrain.graph.config import CacheConfig, ClusterConfig, GnnConfig, SyntheticConfig, TrainConfig
from quatrain.graph.distdgl import launcher
from quatrain.graph.distdgl.job import Job
from quatrain.graph.tuning.tune import TuneConfig


@dataclass(frozen=True)
class Case:
    """One way to train."""

    policy: str
    fraction: float = 0.25
    candidates: str | None = None
    stock: bool = False
    look_ahead: int = 2
    replicate: bool = False
    carry: bool | None = None
    wire: str = "float32"

    def buffer(self, base: GnnConfig) -> CacheConfig:
        """Return the cache settings of the case; what it leaves open has the policy's default."""
        same = ("policy", "fraction", "candidates", "carry", "wire")
        return replace(base.buffer, **{name: getattr(self, name) for name in same})

    def config(self, base: GnnConfig) -> GnnConfig:
        """Return the settings of the case."""
        buffer = self.buffer(base)
        sampler = "stock" if self.stock else "seeded"
        train = replace(base.train, sampler=sampler, look_ahead=self.look_ahead, replicate=self.replicate)
        return replace(base, buffer=buffer, train=train)


CASES = {
    "stock": Case("none", stock=True, look_ahead=0),
    "stock ahead": Case("none", stock=True),
    "none": Case("none"),
    **{
        f"{policy} {name}": Case(policy, fraction)
        for name, fraction in ((".25", 0.25), (".5", 0.5))
        for policy in ("static-degree", "presample", "paper", "lfu", "belady")
    },
    "belady .25 halo": Case("belady", candidates="halo", carry=False),
    "belady .25 float16": Case("belady", wire="float16"),
    "floor": Case("none", replicate=True),
}
RECORD = "record"
"""Not measured: records the trace for the predictions."""


def base(arguments: argparse.Namespace, kind: str) -> GnnConfig:
    """Return the settings that all cases share."""
    train = TrainConfig(
        epochs=arguments.epochs, batch=1000, fanout=(10, 25), hidden=16, evaluate_every=0, save_every=0
    )  # fmt: skip
    made = SyntheticConfig(vertices=arguments.vertices, degree=20.0, features=100)
    buffer = CacheConfig(window=arguments.window)
    return GnnConfig(
        data=f"made:{kind}", made=made, cluster=ClusterConfig(machines=2, trainers=1), train=train, buffer=buffer
    )


# The processes of the job: this script again, with --keep as supervisor of a machine, and as the trainers' module


def keep(folder: Path, number: int, alone: bool) -> None:
    """Supervise one machine, or both if they share a host."""
    job = Job.read(folder)
    programs = {**launcher.PROGRAMS, "train": "prefetch"}
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    machines, address = ([0, 1], "127.0.0.1") if alone else ([number], ADDRESSES[number])
    if not alone:
        os.environ["GLOO_SOCKET_IFNAME"] = LINK
    launcher.HostSupervisor(job, machines, address, programs).run()


def train(folder: Path, number: int, trainer: int) -> None:
    """Train every case, bandwidth and seed that plan.json asks for."""
    import torch
    import torch.distributed as dist

    from quatrain.graph import feature_path
    from quatrain.graph.study import GnnStudy
    from quatrain.graph.train import GnnTrainer, joined

    plan, job = read_json(folder / "plan.json"), Job.read(folder)

    class Measured(GnnTrainer):
        """A trainer that records the bytes on the link, and evaluates with an unthrottled link."""

        wire: list[int]

        def train(self, prepared: Any) -> None:
            """Train one epoch."""
            before = received()
            super().train(prepared)
            moved = torch.tensor([float(received() - before)])
            dist.all_reduce(moved)
            self.wire.append(int(moved))

        def accuracy(self, part: str) -> float:
            """Evaluate with an unthrottled link."""
            if plan["network"]:
                throttle(None)
            dist.barrier()
            return super().accuracy(part) if plan["judge"] else 0.0

    with joined(job, number, trainer) as graph:
        for item in plan["runs"]:
            config = Case(**item["case"]).config(base(argparse.Namespace(**plan["arguments"]), plan["kind"]))
            config = replace(config, record_trace=item["name"] == RECORD)
            place = folder / item["place"]
            (place / "checkpoints").mkdir(parents=True, exist_ok=True)
            study = GnnStudy(folder=place, config=config, seed=item["seed"])
            if plan["network"]:
                throttle(None)
            else:
                # the feature path uses both names
                feature_path.IndexedSource = feature_path.DistTensorFeatures = partial(  # type: ignore[misc, assignment]
                    sleepy, own=feature_path.own_vertices(graph), mbit=item["mbit"]
                )
            measured = Measured(study, job, graph, number, trainer)
            measured.wire = []
            dist.barrier()
            if plan["network"]:
                throttle(item["mbit"])
            measured.run()
            if measured.rank == 0:
                write_json(place / "wire.json", measured.wire)


# The benchmark


def measure(arguments: argparse.Namespace, kind: str, linked: bool, root: Path) -> dict[tuple[float, str], list[Any]]:
    """Run all cases on one graph; return the counted epochs and the result by bandwidth and case."""
    from quatrain.graph.dataset.load import open_graph
    from quatrain.graph.distdgl.partition import partition, read_facts, table

    config = base(arguments, kind)
    parts = partition(
        open_graph(config, root), method="metis", parts=2, undirected=True, folder=None, cache=root
    )  # fmt: skip
    print(table(read_facts(parts)), file=sys.stderr)
    folder = root / f"run-{kind}"
    record = {
        "case": asdict(Case("none")),
        "name": RECORD,
        "mbit": 10_000.0,
        "seed": arguments.seeds[0],
        "place": RECORD,
    }
    runs = [
        {"case": asdict(CASES[name]), "name": name, "mbit": mbit, "seed": seed, "place": f"{index}"}
        for index, (seed, mbit, name) in enumerate(
            (seed, mbit, name) for seed in arguments.seeds for mbit in arguments.mbit for name in arguments.cases
        )
    ]
    shared = {"vertices": arguments.vertices, "epochs": arguments.epochs, "window": arguments.window}
    job = Job(folder=folder, name=f"q{uuid.uuid4().hex[:10]}", parts=parts, machines=2, trainers=1)
    job.write()
    plan = {"runs": [record, *runs], "kind": kind, "network": linked, "arguments": shared, "judge": arguments.judge}
    write_json(folder / "plan.json", plan)
    launch(folder, linked)
    results: dict[tuple[float, str], list[Any]] = {}
    for run in runs:
        place = folder / run["place"]
        row = {"epochs": read_json(place / "epochs.json")[COUNTED], **read_json(place / "result.json")}
        row["wire"] = read_json(place / "wire.json")[COUNTED]
        results.setdefault((run["mbit"], run["name"]), []).append(row)
    return results


def launch(folder: Path, linked: bool) -> None:
    """Run the supervisors, one in each namespace, and wait for them."""
    own = [sys.executable, __file__, "--keep", str(folder)]
    if not linked:
        subprocess.run([*own, "0", "alone"], check=True)
        return
    private = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"']
    supervisors = [
        subprocess.Popen(["ip", "netns", "exec", host, *private, "sh", *own, str(number)])
        for number, host in enumerate(HOSTS)
    ]
    try:
        codes = [supervisor.wait() for supervisor in supervisors]
    finally:
        for supervisor in supervisors:
            supervisor.terminate()
    if any(codes):
        raise SystemExit(f"a supervisor ended with {codes}: see {folder}/logs")


def mean(rows: list[Any], key: str) -> list[float]:
    """Return the median over the epochs of each seed."""
    return [statistics.median(epoch[key] or 0.0 for epoch in row["epochs"]) for row in rows]


GOALS = {
    (200.0, f"{name} {fraction}"): goal
    for fraction, goal in ((".25", 0.45), (".5", 0.65))
    for name in ("lfu", "belady")
}
"""Goals for the saved share of stock's epoch time."""


def report(kind: str, label: str, results: dict[tuple[float, str], list[Any]], traces: Path, shared: GnnConfig) -> None:
    """Print the lines of one graph; predictions come from the trace of the first seed."""
    for (mbit, name), rows in results.items():
        case = f"{kind} {mbit:g} Mbit/s {label}: {name}"
        seconds = mean(rows, "seconds")
        emit("prefetch", case, "epoch", seconds, unit="s", goal="", ok=None)
        for key in ("sample_s", "pull_s", "lookup_s", "copy_s", "train_s", "wait_s"):
            emit("prefetch", case, key.removesuffix("_s"), mean(rows, key), unit="s", goal="", ok=None)
        overhead(case, rows, seconds)
        for key in ("halo_hit_rate", "remote_hit_rate"):
            emit("prefetch", case, key, mean(rows, key), unit="ratio", goal="", ok=None)
        wire = [statistics.median(row["wire"]) / 1e6 for row in rows]
        emit("prefetch", case, "bytes on the link", wire, unit="MB", goal="", ok=None)
        emit("prefetch", case, "test accuracy", [row["test_accuracy"] for row in rows], unit="", goal="", ok=None)
        compare(case, mbit, name, rows, results)
        if name != "floor":
            model = TuneConfig(mbit_s=mbit, depth=CASES[name].look_ahead, overlap=not CASES[name].stock)
            counted = [row["epochs"] for row in rows]
            prefetch_predicted.compare(case, traces, CASES[name].buffer(shared), model, counted)


def overhead(case: str, rows: list[Any], seconds: list[float]) -> None:
    """Print the time of lookup and copy on the preparing thread, and what they add to the epoch."""
    own = [a + b for a, b in zip(mean(rows, "lookup_s"), mean(rows, "copy_s"), strict=True)]
    for name, taken, goal in (
        ("lookup + copy, preparing thread", own, None),
        ("lookup + copy, added to the epoch", mean(rows, "overhead_s"), 0.05),
    ):
        ratio = [a / b for a, b in zip(taken, seconds, strict=True)]
        emit("prefetch", case, name, ratio, unit="of epoch", goal=f"<= {goal}" if goal else "",
             ok=statistics.median(ratio) <= goal if goal else None)  # fmt: skip


def compare(case: str, mbit: float, name: str, rows: list[Any], results: dict[tuple[float, str], list[Any]]) -> None:
    """Print what a case saves against stock and how far it is from the floor."""
    seconds, pulled = mean(rows, "seconds"), mean(rows, "remote_bytes")
    if stock := results.get((mbit, "stock")):
        times, size = mean(stock, "seconds"), mean(stock, "remote_bytes")
        saved = [1 - a / b for a, b in zip(seconds, times, strict=True)]
        goal = GOALS.get((mbit, name))
        emit("prefetch", case, "epoch below stock", saved, unit="ratio", goal=f">= {goal}" if goal else "",
             ok=statistics.median(saved) >= goal if goal else None)  # fmt: skip
        faster = [b / a for a, b in zip(seconds, times, strict=True)]
        has_goal = mbit == 50 and name.startswith("belady .25")
        emit("prefetch", case, "throughput over stock", faster, unit="x", goal=">= 3" if has_goal else "",
             ok=statistics.median(faster) >= 3 if has_goal else None)  # fmt: skip
        share = [a / b for a, b in zip(pulled, size, strict=True)]
        half = ".25" in name
        emit("prefetch", case, "feature bytes over stock", share, unit="ratio", goal="<= 0.5" if half else "",
             ok=statistics.median(share) <= 0.5 if half else None)  # fmt: skip
    if floor := results.get((mbit, "floor")):
        over = [a / b - 1 for a, b in zip(seconds, mean(floor, "seconds"), strict=True)]
        near = mbit == 200 and ".5" in name
        emit("prefetch", case, "epoch above floor", over, unit="ratio", goal="<= 0.15" if near else "",
             ok=statistics.median(over) <= 0.15 if near else None)  # fmt: skip


def main() -> None:
    """Read the flags and run; or be a process of the job."""
    if len(sys.argv) == 4 and sys.argv[1].startswith("/"):
        train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["--keep"]:
        keep(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["alone"])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one graph, one seed, four cases at 200 Mbit/s")
    parser.add_argument("--graphs", nargs="+", choices=("rmat", "community"), default=["rmat", "community"])
    parser.add_argument("--mbit", nargs="+", type=float, default=[200.0, 50.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--vertices", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--window", type=int, help="steps to look ahead; default: the policy's")
    parser.add_argument("--network", action=argparse.BooleanOptionalAction, default=True,
                        help="use network namespaces if they are allowed")  # fmt: skip
    parser.add_argument(
        "--judge", action=argparse.BooleanOptionalAction, default=True, help="evaluate on the test vertices"
    )
    parser.add_argument("--keep-files", type=Path, help="keep the run folders there")
    arguments = parser.parse_args()
    if arguments.epochs < 5:
        parser.error(f"--epochs is {arguments.epochs}; it must be at least 5, because 4 epochs are not counted")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if arguments.quick:
        arguments.graphs, arguments.mbit, arguments.seeds = ["community"], [200.0], [0]
        arguments.cases, arguments.epochs = ["stock", "lfu .25", "belady .25", "floor"], 6
    root = arguments.keep_files or Path(tempfile.mkdtemp(prefix="prefetch-"))
    root = root.resolve()
    try:
        with network(wanted=arguments.network) as linked:
            label = "link" if linked else "THROTTLED SOURCE, NO NETWORK"
            for kind in arguments.graphs:
                results = measure(arguments, kind, linked, root)
                report(kind, label, results, root / f"run-{kind}" / RECORD / "traces", base(arguments, kind))
    finally:
        if arguments.keep_files is None:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
