"""Whether the search keeps workers busy, saves evaluations, and survives its driver.

    python benchmarks/search.py [--quick] [--cases utilisation frugality crash] [--truth TABLE]

- utilisation: evaluations of 50 to 500 ms (seeded) on eight real workers, driven by OpenTuner as a run drives them.
  Busy is what the workers evaluated between the first and the last proposal, against eight times that span; the wall
  time is held against one worker's. Workers are up before the first proposal.
- frugality: searches of a space of which every network is known on every image (benchmarks/truth.py makes the table),
  at most 70 % or 80 % of the parameters. Counted are the images measured until a network within 1 % of the best one
  (and within 0.3 %) is measured whole; medians over ten seeds. Ours have as many networks in flight as eight workers
  get. The plain loop is OpenTuner's default bandit over one enumeration per block, one evaluation at a time on every
  image, repeats measured again; networks above the limit cost it nothing.
- crash: a driver that is killed (SIGKILL) at random instants and resumed until it ends, against an undisturbed one,
  results passed in the order of their start.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from lines import emit

from quatrain.files import read_json, read_lines
from quatrain.hpc.apps import Workers, open_workers
from quatrain.hpc.placement import place
from quatrain.hpc.run import Run
from quatrain.hpc.search_loop import drive, under_way
from quatrain.hpc.site import Request
from quatrain.nas.autotune_config import AutotuneConfig
from quatrain.nas.config import SpaceConfig
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.halving import rungs
from quatrain.search.search import Search
from quatrain.seeding import derive
from quatrain.site_configs import local
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Space, Subnet

SAM = shape("vit_mini")
REMOVABLE = (1, 2, 5, 6, 9)
SPACE = SpaceConfig(removable=REMOVABLE).space(SAM, REMOVABLE, (0.5,) * 5)
BOUNDS = Bounds.parse(SAM, max_params="60%")


def evaluate(key: str, shortest_s: float, longest_s: float, done: str) -> dict[str, float]:
    """Stand in for a measurement: take a seeded time, give a synthetic score, and report its time."""
    import time  # the function travels to workers by itself

    from quatrain.seeding import numpy_rng
    from quatrain.supernet.space import Subnet

    began = time.time()
    time.sleep(float(numpy_rng(0, "seconds", key).uniform(shortest_s, longest_s)))
    widths = Subnet.parse(key).widths
    score = 0.5 + sum((width / 384) ** 0.5 * (8, 1, 4, 2)[i % 4] for i, width in enumerate(widths)) / 100
    if done:
        with open(done, "a") as file:
            file.write(key + "\n")
    return {"miou_oracle": score, "began": began, "ended": time.time()}


# Utilisation


def searched(workers: Workers, folder: Path, count: int, budget: int, **options: Any) -> tuple[Search, list[float]]:
    """Search with up to `count` workers; return the search and the moments of its proposals."""
    search = Search(space=SPACE, bounds=BOUNDS, journal=folder / "search.jsonl", seed=0, budget=budget)
    times = options.pop("times", (0.05, 0.5))
    done = options.pop("done", "")
    start, moments = workers.app(evaluate, shape="gpu", name="measure"), []

    def measure(trial: Trial) -> Future[Any]:
        moments.append(time.time())
        return start(trial.subnet.key, *times, done)

    drive(search, measure, count, lambda _trial: None, print, **options)
    return search, moments


def busy_share(search: Search, moments: list[float], count: int) -> tuple[float, float]:
    """Return the busy share between the first and the last proposal, and the seconds to the last result."""
    first, last = moments[0], moments[-1]
    spans = [(found.metrics["began"], found.metrics["ended"]) for found in search.evaluations]
    busy = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in spans)
    return busy / (count * (last - first)), max(end for _, end in spans) - first


def utilisation(quick: bool) -> None:
    """Measure eight workers and one."""
    budget, results = (80, {}) if quick else (240, {})
    for count in (8, 1):
        with tempfile.TemporaryDirectory() as root:
            site = replace(local.site(), gpu_workers=count)
            run = Run.create("autotune", {"workers": count}, root=Path(root))
            with run, open_workers(run, place(site, Request())) as workers:
                up = workers.app(evaluate, shape="gpu", remember=False)
                for future in [up(SPACE.largest().key, 1.0, 1.001, "") for _ in range(count)]:
                    future.result()
                results[count] = busy_share(*searched(workers, run.path, count, budget), count)
    case = f"{budget} evaluations of 50-500 ms"
    for count, (share, _) in results.items():
        ok = share >= 0.95 if count == 8 else None
        emit(
            "search", case, f"busy, {count} workers", [share], unit="share", goal=">= 0.95" if count == 8 else "", ok=ok
        )
    ratio = results[8][1] / results[1][1]
    emit("search", case, "wall time, 8 workers against 1", [ratio], unit="ratio", goal="<= 0.1429", ok=ratio <= 1 / 7)


# Frugality


class Truth:
    """A table of every network on every image."""

    def __init__(self, path: Path, limit: str, within: float) -> None:
        table = np.load(path, allow_pickle=False)
        self.row = {key: i for i, key in enumerate(table["keys"].tolist())}
        self.iou, self.objects = table["iou"].astype(float), table["objects"]
        self.images = len(self.objects)
        widths = np.array([Subnet.parse(key).widths for key in self.row])
        choices = tuple(tuple(sorted({int(w) for w in column if w})) for column in widths.T)
        removable = tuple(i for i, column in enumerate(widths.T) if 0 in column)
        self.space = Space(
            full=full_subnet(SAM).widths, choices=choices, removable=removable, drop_probability=(0.5,) * len(removable)
        )
        self.bounds = Bounds.parse(SAM, max_params=limit)
        self.whole = dict(zip(self.row, (self.iou.sum(1) / self.objects.sum()).tolist(), strict=True))
        admitted = [key for key in self.row if self.bounds.admits(Subnet.parse(key))]
        self.best = max(self.whole[key] for key in admitted)
        self.good = {key for key in admitted if self.whole[key] >= (1 - within) * self.best}
        self.admitted = len(admitted)

    def measure(self, trial: Trial) -> dict[str, float]:
        """Return the figures of a network on a stretch of images."""
        stretch = slice(trial.first, trial.last)
        objects = float(self.objects[stretch].sum())
        total = float(self.iou[self.row[trial.subnet.key], stretch].sum())
        images = len(self.objects[stretch])
        return {"miou_oracle": total / objects, "objects": objects, "images": float(images)}


def images_of_search(truth: Truth, engine: str, seed: int, *, halving: bool) -> int:
    """Return the images measured until a good network was measured whole; everything when none was."""
    steps = rungs(truth.images, eta=3, least=max(2, truth.images // 6)) if halving else ()
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            space=truth.space, bounds=truth.bounds, journal=Path(folder, "j"), seed=seed, budget=truth.admitted,
            engine=engine, rungs=steps,
        )  # fmt: skip
        spent, flying = 0, deque[Trial]()
        while True:
            while len(flying) < under_way(8) and (trial := search.propose()) is not None:
                flying.append(trial)
            if not flying:
                return spent
            trial = flying.popleft()
            figures = truth.measure(trial)
            spent += int(figures["images"])
            search.record(trial, figures)
            if search.known(trial.subnet) and trial.subnet.key in truth.good:
                return spent


def images_of_plain_loop(truth: Truth, seed: int) -> int:
    """Return the images that unchanged OpenTuner measures until it finds a good network."""
    from quatrain.search.engines import opentuner as bandit  # contains what importing OpenTuner does

    warnings.simplefilter("ignore")  # SQLAlchemy 2 objects to OpenTuner's models at every proposal
    asks, spent = plain_loop(bandit, truth, seed), 0
    for _, key in zip(range(20 * truth.admitted), asks, strict=False):
        if truth.bounds.admits(Subnet.parse(key)):
            spent += truth.images
            if key in truth.good:
                break
    return spent


def plain_loop(bandit: Any, truth: Truth, seed: int) -> Iterator[str]:
    """Yield the networks that the loop of SuperSAM's code asks for: an enumeration a block, the default bandit."""
    opentuner = bandit.opentuner
    before, manipulator = random.getstate(), opentuner.ConfigurationManipulator()
    random.seed(derive(seed, "plain loop"))
    for block, widths in enumerate(truth.space.choices):
        kept = [0, *widths] if block in truth.space.removable else list(widths)
        if len(kept) > 1:
            manipulator.add_parameter(opentuner.EnumParameter(str(block), kept))
    parser = argparse.ArgumentParser(parents=opentuner.argparsers())
    arguments = parser.parse_args(["--database=sqlite:///:memory:", "--parallelism=1", "--no-dups", "--quiet"])
    interface = opentuner.MeasurementInterface(
        args=arguments, manipulator=manipulator, objective=bandit._Objective(), input_manager=bandit.FixedInputManager()
    )
    manager = bandit.TuningRunManager(interface, arguments)
    while (desired := manager.get_next_desired_result()) is not None:
        chosen = desired.configuration.data
        widths = (chosen.get(str(block), widths[0]) for block, widths in enumerate(truth.space.choices))
        key = "-".join(map(str, widths))
        yield key
        score = truth.whole[key] if truth.bounds.admits(Subnet.parse(key)) else 0.0
        manager.report_result(desired, bandit.Result(time=1 - score))
    random.setstate(before)


def frugality(quick: bool, path: Path, limit: str, within: float) -> None:
    """Hold every engine, with and without halving, against the plain loop and random draws."""
    truth, seeds = Truth(path, limit, within), range(3 if quick else 10)
    case = f"{limit}: {truth.admitted} networks, {truth.images} images, {len(truth.good)} within {100 * within:g} %"
    ways: dict[str, Callable[[int], int]] = {"plain OpenTuner loop": lambda seed: images_of_plain_loop(truth, seed)}
    for engine in ("random", "additive", "opentuner", "optuna-tpe", "optuna-nsga2", "evolution"):
        for halving in (False, True):
            name = f"{engine}, halving" if halving else engine
            ways[name] = lambda seed, e=engine, h=halving: images_of_search(truth, e, seed, halving=h)
    spent = {name: [float(way(seed)) for seed in seeds] for name, way in ways.items()}
    for name, counts in spent.items():
        emit("search", case, f"images, {name}", counts, unit="images", goal="", ok=None)
    default = AutotuneConfig()
    named = (default.engine + (", halving" if default.eta > 1 else ""), "plain OpenTuner loop", "random")
    ours, plain, random_net = (statistics.median(spent[name]) for name in named)
    emit("search", case, "plain loop against ours", [plain / ours], unit="ratio", goal=">= 3", ok=plain >= 3 * ours)
    deviation = statistics.stdev(spent["random"])
    margin = (random_net - ours) / deviation if deviation else 0.0
    emit("search", case, "margin over random", [margin], unit="standard deviations", goal="> 1", ok=margin > 1)


# Crash


def child(folder: Path, budget: int) -> None:
    """Start a search in a run folder, or resume it."""
    root, configuration = folder.parent, {"budget": budget}
    run = Run.resume(folder, "autotune", configuration) if folder.is_dir() else None
    run = run or Run.create("autotune", configuration, root=root)
    if not folder.is_symlink():
        folder.symlink_to(run.path)
    with run, open_workers(run, place(replace(local.site(), gpu_workers=2), Request())) as workers:
        times, done = (0.1, 0.3), str(run.path / "evaluated.txt")
        search, _ = searched(workers, run.path, 2, budget, times=times, done=done, in_order=True)
        best = search.best()
        assert best is not None
        run.summarise(best=best.subnet.key)


def start(folder: Path, budget: int) -> subprocess.Popen[bytes]:
    """Start a driver."""
    command = [sys.executable, __file__, "--child", str(folder), "--budget", str(budget)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def searching_s(folder: Path) -> float:
    """Return the seconds from the first evaluation handed out to the last result of an undisturbed run."""
    moments = [
        datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
        for line in read_lines(folder / "events.jsonl")
        if str(line["task"]).startswith("measure")
    ]
    return max(moments) - min(moments)


def crash(quick: bool) -> None:
    """Kill a driver repeatedly, and compare the result with that of an undisturbed one.

    A driver is killed at a random instant between its start and a fifth of the search.
    """
    kills, budget = (4, 30) if quick else (20, 120)
    with tempfile.TemporaryDirectory() as root:
        whole, broken = Path(root, "whole"), Path(root, "broken")
        began = time.monotonic()
        assert start(whole, budget).wait() == 0
        latest = time.monotonic() - began - 0.8 * searching_s(whole)
        rng, killed = np.random.default_rng(0), 0
        while True:
            driver = start(broken, budget)
            try:
                ended = driver.wait(float(rng.uniform(0.2, latest)) if killed < kills else None)
            except subprocess.TimeoutExpired:
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                killed += 1
                continue
            if ended:
                raise SystemExit(f"the driver ended with {ended}")
            break
        lines = [list(read_lines(folder / "search.jsonl")) for folder in (whole, broken)]
        recorded = [line["key"] for line in lines[1] if line["event"] == "record"]
        evaluated = (broken / "evaluated.txt").read_text().split()
        bests = [read_json(folder / "summary.json")["best"] for folder in (whole, broken)]
        order = [[line["key"] for line in some if line["event"] == "propose"] for some in lines]
    case, twice = f"{killed} kills, {budget} networks", len(recorded) - len(set(recorded))
    report = (
        ("kills", killed, kills),
        ("networks recorded", len(recorded), budget),
        ("networks recorded twice", twice, 0),
        ("the same best network", int(bests[0] == bests[1]), 1),
        ("the same proposals in the same order", int(order[0] == order[1]), 1),
    )
    for metric, value, goal in report:
        emit("search", case, metric, [value], unit="", goal=f"{goal}", ok=value == goal)
    again = len(evaluated) - len(set(evaluated))
    emit("search", case, "evaluations lost with their driver and done again", [again], unit="", goal="", ok=None)


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=("utilisation", "frugality", "crash"), default=[])
    parser.add_argument("--truth", type=Path, default=Path(__file__).parent / "search_truth.npz")
    parser.add_argument("--limits", nargs="+", default=["70%", "80%"], help="of the parameters")
    parser.add_argument("--within", type=float, nargs="+", default=[0.01, 0.003], help="what counts as the best")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.budget)
        return
    cases = asked.cases or ["utilisation", "frugality", "crash"]
    if "utilisation" in cases:
        utilisation(asked.quick)
    if "frugality" in cases:
        for limit, within in itertools.product(asked.limits, asked.within):
            frugality(asked.quick, asked.truth, limit, within)
    if "crash" in cases:
        crash(asked.quick)


if __name__ == "__main__":
    main()
