from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from quatrain.files import read_json, read_lines

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the tests of this folder share virtual_slurm

from waiting import PATIENCE_S, await_true  # noqa: E402 - found through the line above

TRIAL = (str(HERE / "trial.py"),)
NAS = ("-m", "quatrain.workflows", "submit", "nas")
SMALLEST = (
    *("--gpus-per-node", "1", "--walltime", "50"),
    *("--images", "12", "--few-shot-images", "2", "--max-objects", "2"),
    *("--train.steps", "12", "--train.batch", "2", "--train.save-every-s", "0"),
    *("--search.evaluations", "2", "--search.random-in-bucket", "1", "--search.max-params", "80%"),
)
REQUIRED = "QUATRAIN_CLUSTER_TESTS"
"""Set where these tests must not be skipped."""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A real Slurm of two virtual nodes; the environment with which its commands find it."""
    import images
    import virtual_slurm

    if lacking := [*virtual_slurm.missing_commands(), *images.missing()]:
        refuse = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        refuse(f"not installed here: {', '.join(lacking)} (see .ci/run)")
    folder = tmp_path_factory.mktemp("slurm")
    images.plug_in(folder)
    images.make(folder / "images")
    try:
        configuration = virtual_slurm.start(folder)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        path = f"{HERE / 'bin'}:{Path(sys.executable).parent}:{ours['PATH']}:/usr/sbin"
        yield {
            **ours,
            "PATH": path,
            "SLURM_CONF": str(configuration),
            "SHIFTER_IMAGES": str(folder / "images"),
            "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [ours.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": "1",
        }
    finally:
        virtual_slurm.stop(folder)


class Driver:
    """A workflow under way in a process of its own."""

    def __init__(self, program, words, slurm, folder, before=()):
        self._environment = slurm
        self.output = folder / f"output-{time.monotonic_ns()}"
        argv = [*before, sys.executable, *program, *words]
        with self.output.open("w") as sink:
            self.process = subprocess.Popen(argv, cwd=folder, env=slurm, stdout=sink, stderr=subprocess.STDOUT)

    @property
    def said(self):
        return self.output.read_text()

    @property
    def run_dir(self):
        def named():
            assert self.process.poll() is None or "run folder: " in self.said, self.said
            return [line for line in self.said.splitlines(keepends=True) if line.startswith("run folder: ")]

        line = await_true(lambda: [line for line in named() if line.endswith("\n")], "a run folder")[0]
        return Path(line.removeprefix("run folder: ").strip())

    def events(self):
        return list(read_lines(self.run_dir / "events.jsonl"))

    def states(self):
        return Counter(line["state"] for line in self.events() if line["task"])

    def messages(self, state):
        return [line["message"] for line in self.events() if line["state"] == state]

    def places(self, when):
        """Where tasks began or ended, in any order, from their own reports."""
        paths = sorted((self.run_dir / when).glob("*.jsonl"))
        return [line for path in paths for line in read_lines(path)]

    def await_begun(self, count):
        def begun():
            assert self.process.poll() is None, self.said
            return len(self.places("began")) >= count

        await_true(begun, f"the beginning of {count} tasks: {self.said}")

    def code(self):
        return self.process.wait(PATIENCE_S)

    def summary(self):
        return read_json(self.run_dir / "summary.json")

    def jobs(self):
        """The jobs of this run that Slurm still has."""
        jobs = self.command("squeue", "-h", "-o", "%i %o").splitlines()
        return [line.split()[0] for line in jobs if str(self.run_dir) in line]

    def command(self, *argv):
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture
def start(slurm, tmp_path):
    """Start the trial workflow on the virtual cluster; whatever is left of it at the end is killed."""
    drivers = []

    def begin(*words, site="virtual_site.py", program=("trial.py",), before=(), environment=None):
        program = [str(HERE / program[0]), *program[1:]] if program[0].endswith(".py") else list(program)
        words = [*words] if "--resume" in words else ["--site", str(HERE / site), "--account", "m1234_g", *words]
        driver = Driver(program, words, {**slurm, **(environment or {})}, tmp_path, before)
        drivers.append(driver)
        return driver

    yield begin
    for driver in drivers:
        if driver.process.poll() is None:
            driver.process.kill()
            driver.process.wait()
    for job in subprocess.run(["squeue", "-h", "-o", "%i %o"], env=slurm, capture_output=True, text=True).stdout.split(
        "\n"
    ):
        if str(tmp_path) in job:
            subprocess.run(["scancel", job.split()[0]], env=slurm, check=False)


@pytest.fixture(scope="session", autouse=True)
def begun_early(request):
    """Begin what takes minutes on the spare nodes, so that the other tests fill the time."""
    for file, names in (
        ("test_walltime.py", ("late", "drained", "overdue")),
        ("test_requeue.py", ("requeued", "undisturbed")),
    ):
        if any(item.path.name == file for item in request.session.items):
            for name in names:
                request.getfixturevalue(name)


@pytest.fixture(scope="session")
def drained(slurm, tmp_path_factory):
    """More rounds of tasks of 5 s than fit into a job of two minutes."""
    folder = tmp_path_factory.mktemp("drained")
    words = ("--walltime", "2", "--count", "50", "--seconds", "5", "--gpus-per-node", "2")
    yield from _on_spare_nodes(slurm, folder, TRIAL, *words)


@pytest.fixture(scope="session")
def overdue(slurm, tmp_path_factory):
    """A task that takes minutes at its first try, in jobs of one minute."""
    folder = tmp_path_factory.mktemp("overdue")
    words = ("--walltime", "1", "--count", "6", "--seconds", "0.2", "--stuck-s", "300", "--gpus-per-node", "1")
    yield from _on_spare_nodes(slurm, folder, TRIAL, *words)


@pytest.fixture(scope="session")
def late(slurm, tmp_path_factory):
    """Tasks of 2 s in an allocation of two minutes, which begin when half of it is over."""
    around = ("salloc", "-N1", "-Cgpu", "--partition=spare", "--gpus-per-node=1", "--cpus-per-task=2", "--time=2")
    words = ("--count", "60", "--seconds", "2", "--late-s", "60", "--gpus-per-node", "1")
    yield from _on_spare_nodes(slurm, tmp_path_factory.mktemp("late"), TRIAL, *words, before=around)


@pytest.fixture(scope="session")
def requeued(slurm, tmp_path_factory):
    """The whole of nas with its driver in a job, which is asked to stop in the middle of its training."""
    for driver in _on_spare_nodes(slurm, tmp_path_factory.mktemp("requeued"), NAS, *SMALLEST):
        threading.Thread(target=_stop_in_training, args=(driver,), daemon=True).start()
        yield driver


def _stop_in_training(driver):
    """Send at once what Slurm sends before the walltime: by the turn of the test the run may be over."""
    driver.code()
    (job,) = [line.split()[1].rstrip(";") for line in driver.said.splitlines() if line.startswith("job: ")]
    training = driver.run_dir / "training-supernet.jsonl"
    await_true(lambda: len(list(read_lines(training))) >= 2, "two steps of training")
    driver.command("scancel", "--batch", "--signal=USR1", job)


@pytest.fixture(scope="session")
def undisturbed(slurm, tmp_path_factory):
    """The same, let alone."""
    yield from _on_spare_nodes(slurm, tmp_path_factory.mktemp("undisturbed"), NAS, *SMALLEST)


def _on_spare_nodes(slurm, folder, program, *words, before=()):
    where = ("--site", str(HERE / "virtual_site.py"), "--account", "m1234_g", "--partition", "spare")
    driver = Driver(program, [*where, *words], slurm, folder, before)
    yield driver
    if driver.process.poll() is None:
        driver.process.kill()
        driver.process.wait()
