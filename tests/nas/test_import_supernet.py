from __future__ import annotations

from dataclasses import replace

import pytest
from supernet_world import SPACE, TINY

from quatrain import checkpoint
from quatrain.data.split import Split
from quatrain.errors import UsageError
from quatrain.nas import stages, study, train
from quatrain.nas.config import NasConfig
from quatrain.nas.import_supernet import adopt
from quatrain.nas.study import NasStudy
from quatrain.sam.build import build
from quatrain.sam.registry import SHAPES
from quatrain.supernet.config import TrainConfig
from quatrain.supernet.space import Subnet

CONFIG = {"model": "tiny", "data": "made", "images": 10, "train": TrainConfig(steps=4, batch=2, prompts=2, warmup=0)}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", TINY)


@pytest.fixture
def theirs(tmp_path):
    """A study whose supernet is trained, as a nas run leaves it."""
    made = NasStudy.create(tmp_path / "theirs", NasConfig(**CONFIG), seed=4)
    made = replace(made, space=SPACE)
    made.write()
    model = build(TINY, 1)
    for name, more in (("start", {}), ("supernet", {"step": 4})):
        checkpoint.save(made.checkpoints / f"{name}.pt", {"model": model.state_dict(), **more})
    return made


def test_the_images_keep_their_parts_and_validation_is_cut_short(theirs, tmp_path):
    facts = adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=1)
    ours = NasStudy.read(tmp_path / "ours")

    assert (ours.split.train, ours.split.test) == (theirs.split.train, theirs.split.test)
    assert ours.split.validation == theirs.split.validation[:1]
    assert (ours.space, ours.seed) == (SPACE, theirs.seed)
    assert facts["split"]["validation"] == 1
    assert facts["model"] == "tiny"


def test_weights_are_shared_and_neither_run_can_spoil_the_others(theirs, tmp_path):
    adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=9)
    ours, source = tmp_path / "ours" / "checkpoints" / "supernet.pt", theirs.checkpoints / "supernet.pt"
    assert ours.samefile(source)

    before = source.read_bytes()
    checkpoint.save(ours, {"model": {}})

    assert source.read_bytes() == before
    assert not (tmp_path / "ours" / "checkpoints" / "finetune.pt").exists()


def test_other_images_are_dealt_anew(theirs, tmp_path):
    adopt(str(tmp_path / "ours"), str(theirs.folder), "made:seen", images=9)
    ours = NasStudy.read(tmp_path / "ours")

    assert ours.config.data == "made:seen"
    assert ours.space == SPACE
    assert isinstance(ours.split, Split)


def test_adopting_twice_changes_nothing(theirs, tmp_path):
    first = adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=2)

    assert adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=2) == first


def test_a_supernet_whose_training_has_not_ended_is_refused(theirs, tmp_path):
    state = checkpoint.load(theirs.checkpoints / "supernet.pt")
    checkpoint.save(theirs.checkpoints / "supernet.pt", {**state, "step": 3})

    with pytest.raises(UsageError, match=r"is at step 3 of 4: finish that run with --resume first"):
        adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=2)


@pytest.mark.parametrize("payload", [{}, {"model": 3}])
def test_a_file_without_weights_is_no_supernet(theirs, tmp_path, payload):
    checkpoint.save(theirs.checkpoints / "supernet.pt", payload)

    with pytest.raises(UsageError, match="is not a supernet"):
        adopt(str(tmp_path / "ours"), str(theirs.folder), None, images=2)


def test_a_stretch_of_images_is_measured_alone(theirs):
    folder, key = str(theirs.folder), SPACE.smallest().key
    whole = stages.measure(folder, "supernet", key, "validation")
    apart = [stages.measure(folder, "supernet", key, "validation", *stretch) for stretch in ((0, 1), (1, None))]

    assert sum(part["images"] for part in apart) == whole["images"]
    assert sum(part["objects"] * part["miou_oracle"] for part in apart) == pytest.approx(
        whole["objects"] * whole["miou_oracle"]
    )


def test_the_found_network_is_trained_by_itself(theirs):
    net = Subnet(widths=(24, 0, 96, 48))

    assert train.main([str(theirs.folder), "--role", "tuned", "--subnet", net.key, "--steps", "2"]) == 0

    before = study.network(str(theirs.folder), "supernet").state_dict()
    after = study.network(str(theirs.folder), "tuned").state_dict()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert any(name.startswith("image_encoder.blocks.0.") for name in moved)
    assert not any(name.startswith("image_encoder.blocks.1.") for name in moved)


@pytest.mark.parametrize("flags", [["--role", "tuned"], ["--subnet", "24-0-96-48", "--steps", "2"]])
def test_a_network_and_its_steps_belong_to_that_role_alone(theirs, flags, capsys):
    with pytest.raises(SystemExit):
        train.main([str(theirs.folder), *flags])

    assert "role tuned takes --subnet and --steps" in capsys.readouterr().err
