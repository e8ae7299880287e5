"""DistDGL itself: servers and trainers as processes, on a graph so small that their start is all that takes time."""

import socket
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from graph_world import keep, small

from quatrain.files import read_json
from quatrain.graph import stages
from quatrain.graph.config import CacheConfig, PartitionConfig
from quatrain.graph.distdgl.job import SHM
from quatrain.graph.distdgl.launcher import PROGRAMS, HostSupervisor, ProcessFailed
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import read_trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*/proc/self/status"),  # DGL reads its memory there without closing the file
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return Path(stages.prepare(small(), tmp_path_factory.mktemp("cache"))["parts"])


def train(folder, config, parts, programs=PROGRAMS):
    job = stages.start(folder, config, 0, parts)
    try:
        HostSupervisor(job, range(job.machines), "127.0.0.1", programs).run()
    finally:
        assert not list(SHM.glob(f"*{job.name}*"))
    return stages.outcome(folder)


@pytest.fixture(scope="module")
def plain(parts, tmp_path_factory):
    """The outcome of a training by way of a buffer that counts."""
    return train(tmp_path_factory.mktemp("plain"), small(), parts)


def losses(outcome):
    return [row["loss"] for row in outcome["epochs"]]


def test_the_outcome_reports_every_epoch_and_what_was_learnt(plain):
    first, second, last = plain["epochs"]

    assert last["loss"] < first["loss"]
    assert 0.5 < plain["test_accuracy"] <= 1
    assert plain["policy"] == "lfu"
    assert plain["buffer_rows"] > 0
    assert 0 < last["halo_hit_rate"] <= 1
    assert 0 < last["remote_hit_rate"] <= last["halo_hit_rate"]
    assert last["remote_bytes"] == last["remote_rows"] * 8 * 4
    assert all(row["seconds"] >= row["train_s"] > 0 and row["sample_s"] > 0 for row in plain["epochs"])
    assert "accuracy" in second
    assert "accuracy" not in first


def test_a_training_that_was_killed_goes_on_from_its_checkpoint_to_the_same_losses(plain, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(ProcessFailed, match="train-0-0 was ended by SIGKILL"):
        train(tmp_path, small(), parts, {**PROGRAMS, "train": "train_killed"})
    assert len(read_json(tmp_path / "epochs.json")) == 1

    again = train(tmp_path, small(), parts)

    assert losses(again) == losses(plain)
    assert again["test_accuracy"] == plain["test_accuracy"]


@pytest.mark.parametrize("role", ["server-1", "train-0-0"])
def test_a_process_that_is_killed_ends_the_job_with_a_clear_line_and_leaves_nothing(role, parts, tmp_path):
    job = stages.start(tmp_path, small(epochs=100_000, evaluate_every=0), 0, parts)
    with keep(tmp_path, 0, 1) as keeper:
        wait_for(lambda: (tmp_path / "epochs.json").exists() or keeper.poll() is not None)
        children = psutil.Process(keeper.pid).children(recursive=True)
        kind, *numbers = role.split("-")
        (victim,) = [one for one in children if one.cmdline()[-1 - len(numbers) :] == [str(tmp_path), *numbers]
                     and one.cmdline()[2].endswith(kind)]  # fmt: skip
        assert list(SHM.glob(f"*{job.name}*"))
        victim.kill()
        said = keeper.communicate(timeout=30)[1].decode()

    assert keeper.returncode == 1
    assert said.startswith(f"{role} was ended by SIGKILL; the end of {tmp_path}/logs/{role}.log:")
    assert len(children) == 4
    assert not any(one.is_running() for one in children)
    assert not list(SHM.glob(f"*{job.name}*"))


def test_a_port_in_use_is_one_line_and_nothing_is_started(parts, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = min(taken.getsockname()[1], 65533)
        config = small()
        stages.start(tmp_path, replace(config, cluster=replace(config.cluster, port=port)), 0, parts)
        with keep(tmp_path, 0, 1) as keeper:
            said = keeper.communicate(timeout=60)[1].decode()

    assert keeper.returncode == 2
    assert said.startswith(f"quatrain: port {port} of 127.0.0.1 cannot be used")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "logs").exists()


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


def test_what_is_kept_and_how_far_is_looked_ahead_change_no_loss(plain, parts, tmp_path):
    config = replace(small(look_ahead=0), buffer=CacheConfig(policy="belady", window=3), record_trace=True)

    foreseen = train(tmp_path, config, parts)

    assert losses(foreseen) == losses(plain)
    done = [replay(read_trace(path), config.buffer) for path in sorted((tmp_path / "traces").glob("*.h5"))]
    assert len(done) == 2
    pulled = sum(int(one.remote_rows.sum()) for one in done)
    assert pulled == sum(row["remote_rows"] for row in foreseen["epochs"])


def test_float16_on_the_wire_halves_the_bytes_and_moves_the_loss_a_little(plain, parts, tmp_path):
    exact = small()
    lossy = train(tmp_path, replace(exact, buffer=replace(exact.buffer, wire="float16")), parts)

    ours, theirs = lossy["epochs"][-1], plain["epochs"][-1]
    assert ours["remote_rows"] == theirs["remote_rows"]
    assert ours["remote_bytes"] * 2 == theirs["remote_bytes"]
    assert losses(lossy) != losses(plain)
    assert losses(lossy) == pytest.approx(losses(plain), rel=0.01)


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """Parts dealt at random, so that trainers also read labels of other machines'."""
    config = replace(small(), partition=PartitionConfig(method="random"))
    three = replace(config, cluster=replace(config.cluster, machines=3))
    place = tmp_path_factory.mktemp("cache")
    return {one.cluster.machines: Path(stages.prepare(one, place)["parts"]) for one in (config, three)}


def test_stock_distdgl_and_attention_train_too_two_trainers_a_machine(scattered, tmp_path):
    config = replace(small(model="gat", sampler="stock", look_ahead=0, epochs=2), buffer=CacheConfig(policy="none"))
    config = replace(config, cluster=replace(config.cluster, trainers=2))

    stock = train(tmp_path, config, scattered[2])

    assert len(stock["epochs"]) == 2
    assert stock["epochs"][0]["halo_hit_rate"] is None
    assert stock["buffer_rows"] == 0


def test_rows_and_labels_of_several_machines_are_those_that_distdgl_itself_sends(scattered, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    config = small(evaluate_every=1, epochs=2, batch=8, fanout=(1, 1))  # draws that find nobody, single rows
    config = replace(config, cluster=replace(config.cluster, machines=3))

    train(tmp_path, config, scattered[3], {**PROGRAMS, "train": "train_checked"})

    for number in range(3):
        assert "all rows are right" in (tmp_path / "logs" / f"train-{number}-0.log").read_text()


def test_what_a_trainer_raises_is_what_is_reported(parts, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    with pytest.raises(ProcessFailed, match="RuntimeError: the fourth step fails"):
        train(tmp_path, small(), parts, {**PROGRAMS, "train": "train_failing"})


def test_trainers_of_a_machine_may_share_a_buffer(parts, tmp_path):
    config = small(epochs=2, evaluate_every=0)
    config = replace(config, cluster=replace(config.cluster, trainers=2, share_buffer=True))

    shared = train(tmp_path, config, parts)

    assert shared["epochs"][1]["halo_hit_rate"] > 0
