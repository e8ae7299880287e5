"""DistDGL itself: servers and trainers as processes, on a graph so small that their start is all that takes time."""

from dataclasses import replace
from pathlib import Path

import pytest
from graph_world import small

from quatrain.graph import steps
from quatrain.graph.job import SHM
from quatrain.graph.machine import PROGRAMS, Died, Keeper
from quatrain.graph.replay import replay
from quatrain.graph.settings_buffer import BufferConfig
from quatrain.graph.trace import read_trace
from quatrain.records import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*/proc/self/status"),  # DGL reads its memory there without closing the file
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return Path(steps.prepare(small(), tmp_path_factory.mktemp("cache"))["parts"])


def train(folder, config, parts, programs=PROGRAMS):
    job = steps.start(folder, config, 0, parts)
    try:
        Keeper(job, range(job.machines), "127.0.0.1", programs).run()
    finally:
        assert not list(SHM.glob(f"*{job.name}*"))
    return steps.outcome(folder)


@pytest.fixture(scope="module")
def plain(parts, tmp_path_factory):
    """The outcome of a training by way of a buffer that counts."""
    return train(tmp_path_factory.mktemp("plain"), small(), parts)


def losses(outcome):
    return [row["loss"] for row in outcome["epochs"]]


def test_the_outcome_tells_every_epoch_and_what_was_learnt(plain):
    first, second, last = plain["epochs"]

    assert last["loss"] < first["loss"]
    assert 0.25 < plain["test_accuracy"] <= 1
    assert plain["policy"] == "counts"
    assert plain["buffer_rows"] > 0
    assert 0 < last["halo_hit_rate"] <= 1
    assert 0 < last["remote_hit_rate"] <= last["halo_hit_rate"]
    assert last["remote_bytes"] == last["remote_rows"] * 8 * 4
    assert all(row["seconds"] >= row["train_s"] > 0 and row["sample_s"] > 0 for row in plain["epochs"])
    assert "accuracy" in second
    assert "accuracy" not in first


def test_a_training_that_was_killed_goes_on_from_its_checkpoint_to_the_same_losses(plain, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(Died, match="train-0-0 was ended by SIGKILL"):
        train(tmp_path, small(), parts, {**PROGRAMS, "train": "train_killed"})
    assert len(read_json(tmp_path / "epochs.json")) == 1

    again = train(tmp_path, small(), parts)

    assert losses(again) == losses(plain)
    assert again["test_accuracy"] == plain["test_accuracy"]


def test_what_is_kept_and_how_far_is_looked_ahead_change_no_loss(plain, parts, tmp_path):
    config = replace(small(look_ahead=2), buffer=BufferConfig(policy="schedule", window=3), record_trace=True)

    foreseen = train(tmp_path, config, parts)

    assert losses(foreseen) == losses(plain)
    done = [replay(read_trace(path), config.buffer) for path in sorted((tmp_path / "traces").glob("*.h5"))]
    assert len(done) == 2
    pulled = sum(int(one.remote_rows.sum()) for one in done)
    assert pulled == sum(row["remote_rows"] for row in foreseen["epochs"])


def test_stock_distdgl_and_attention_train_too_two_trainers_a_machine(parts, tmp_path):
    config = replace(small(model="gat", sampler="stock", look_ahead=0, epochs=2), buffer=BufferConfig(policy="none"))
    config = replace(config, cluster=replace(config.cluster, trainers=2))

    stock = train(tmp_path, config, parts)

    assert len(stock["epochs"]) == 2
    assert stock["epochs"][0]["halo_hit_rate"] is None
    assert stock["buffer_rows"] == 0


def test_trainers_of_a_machine_may_share_a_buffer(parts, tmp_path):
    config = small(epochs=2, evaluate_every=0)
    config = replace(config, cluster=replace(config.cluster, trainers=2, share_buffer=True))

    shared = train(tmp_path, config, parts)

    assert shared["epochs"][1]["halo_hit_rate"] > 0
