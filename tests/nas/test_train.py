from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from supernet_world import TINY, equal

from quatrain import checkpoint
from quatrain.files import read_json, read_lines, write_json
from quatrain.nas import stages, train
from quatrain.nas.config import NasConfig
from quatrain.sam.build import build
from quatrain.sam.registry import SHAPES
from quatrain.supernet.config import TrainConfig

SHORT = TrainConfig(steps=4, batch=2, prompts=2, warmup=2, lr=1e-3, save_every_s=0)


@pytest.fixture(scope="module")
def study_settings():
    """Register the tiny Sam and return settings of a study of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", TINY)
        patch.setattr("quatrain.nas.study.pretrained", lambda *_, **__: build(TINY, 1))
        yield NasConfig(model="tiny", data="made", images=8, train=replace(SHORT, clip=1e9))


@pytest.fixture
def prepared(tmp_path, study_settings):
    stages.prepare(str(tmp_path), study_settings, 0)
    return tmp_path


def start(folder, *launcher, **environment):
    script = str(Path(__file__).with_name("train_tiny.py"))
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    command = [sys.executable, *launcher, script, str(folder)]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300, check=False)


def last_state(folder, role="supernet"):
    return checkpoint.load(folder / "checkpoints" / f"{role}.pt")


@pytest.mark.parametrize("moment", ["reporting", "saving"])
def test_a_process_that_is_killed_and_started_again_ends_as_one_that_was_not(prepared, moment):
    dead = start(prepared, KILL_AT="3", KILL_WHILE=moment)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert last_state(prepared)["step"] == 2
    assert train.main([str(prepared)]) == 0
    resumed = last_state(prepared)

    (prepared / "checkpoints" / "supernet.pt").unlink()
    assert train.main([str(prepared)]) == 0

    expected = last_state(prepared)
    assert equal([resumed["model"], resumed["optimizer"]], [expected["model"], expected["optimizer"]])


def test_two_processes_with_half_the_batch_each_train_as_one(prepared):
    before = checkpoint.load(prepared / "checkpoints" / "start.pt")["model"]

    run = start(prepared, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

    assert run.returncode == 0, run.stderr
    together = last_state(prepared)
    (prepared / "checkpoints" / "supernet.pt").unlink()
    assert train.main([str(prepared)]) == 0
    alone = last_state(prepared)
    assert together["step"] == alone["step"] == 4
    # AdamW divides by the gradient's size, so where that is rounding alone (the keys' bias) it steps at random
    ours, theirs = (momenta(state) for state in (together, alone))
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()
    ours, theirs = (way(state, before) for state in (together, alone))
    assert (ours - theirs).norm() < 0.1 * theirs.norm()


def way(state, before):
    """How far all weights went, as one vector."""
    return torch.cat([(value - before[name]).flatten() for name, value in state["model"].items()])


def momenta(state):
    return torch.cat([state["optimizer"]["state"][i]["exp_avg"].flatten() for i in state["optimizer"]["state"]])


def test_a_role_is_trained_by_hand(prepared):
    assert train.main([str(prepared), "--role", "finetune"]) == 0

    lines = list(read_lines(prepared / "training-finetune.jsonl"))
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(list(line["losses"]) == ["full"] for line in lines)
    assert last_state(prepared, "finetune")["step"] == 4
    assert (prepared / "progress" / "train-finetune.json").exists()


@pytest.mark.parametrize("role", ["supernet-none", "supernet-random"])
def test_every_role_starts_from_its_own_weights(prepared, monkeypatch, role):
    begun = []
    monkeypatch.setattr(train, "fit", lambda ours, *_: begun.append(ours.model.state_dict()))

    train.train(prepared, role)

    start_weights = checkpoint.load(prepared / "checkpoints" / f"{train.ROLES[role]}.pt")["model"]
    assert equal(dict(begun[0]), dict(start_weights))
    sorted_ones = checkpoint.load(prepared / "checkpoints" / "start.pt")["model"]
    assert not equal(dict(begun[0]), dict(sorted_ones))


def one_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_an_unknown_run_folder_ends_with_one_line(tmp_path, capsys):
    assert train.main([str(tmp_path / "absent")]) == 2

    assert one_line(capsys).endswith("absent' holds no study.json: give the folder of a nas run")


def test_a_folder_without_starting_weights_ends_with_one_line(prepared, capsys):
    (prepared / "checkpoints" / "start.pt").unlink()

    assert train.main([str(prepared)]) == 2
    assert "quatrain: there is no checkpoint" in one_line(capsys)


def test_a_study_that_is_not_prepared_ends_with_one_line(prepared, capsys):
    record = read_json(prepared / "study.json")
    write_json(prepared / "study.json", record | {"space": None})

    assert train.main([str(prepared)]) == 2
    assert one_line(capsys).endswith("has no space yet: prepare the study first")


def test_an_unknown_role_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main([str(tmp_path), "--role", "teacher"])

    assert caught.value.code == 2
    assert "invalid choice: 'teacher'" in capsys.readouterr().err
