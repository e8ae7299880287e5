from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from supernet_world import SPACE, TINY

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.nas import study as studies
from quatrain.nas.config import NasConfig, SearchConfig, SpaceConfig, paper
from quatrain.nas.inputs import unreadable
from quatrain.nas.study import NasStudy
from quatrain.sam.build import build
from quatrain.sam.registry import SHAPES
from quatrain.supernet.config import LossConfig, TrainConfig
from quatrain.supernet.elastic import ElasticEncoder


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", TINY)
        patch.setattr("quatrain.nas.study.pretrained", lambda *_, **__: build(TINY, 1))
        yield


def config(**changes):
    return NasConfig(**({"model": "tiny", "data": "made", "images": 10} | changes))


@pytest.fixture
def study(tmp_path):
    return NasStudy.create(tmp_path, config(), seed=4)


def folder_of_images(path, count, size=(24, 40)):
    path.mkdir()
    for i in range(count):
        truth = np.zeros(size, np.uint8)
        truth[4:12, 4 + i : 20] = 1
        Image.fromarray(np.full(size, 20 * i, np.uint8)).save(path / f"image{i}.png")
        Image.fromarray(truth).save(path / f"image{i}_truth.png")
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parts": (0.6, 0.2, 0.2), "fit": "squash", "checkpoint": Path("/weights/sam.pth"), "verify": False},
        {
            "space": SpaceConfig(widths=(24, 96), fixed_blocks=(0,), removable=(1, 2), drop_by_rank=True, order="none"),
            "train": TrainConfig(steps=3, rule="paper", loss=LossConfig(focal=0, single_mask_only=True)),
            "search": SearchConfig(max_params="40k", max_macs="60%", engine="random"),
            "ablations": True,
        },
        {"space": SpaceConfig(removable=())},
    ],
)
def test_a_study_read_back_equals_the_one_created(tmp_path, changes):
    created = NasStudy.create(tmp_path, config(**changes), seed=4)

    assert NasStudy.read(tmp_path) == created
    assert NasStudy.read(str(tmp_path)).split == created.split


def test_a_study_of_the_last_release_is_read(tmp_path):
    created = NasStudy.create(tmp_path, config(eval_images=2, eval_points=3), seed=4)
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(
        text.replace("eval_images", "exam_images").replace("eval_points", "exam_points")
    )

    assert NasStudy.read(tmp_path) == created


def test_no_more_images_choose_and_judge_than_workers_can_hold(tmp_path):
    study = NasStudy.create(tmp_path, config(eval_images=1), seed=4)

    assert len(study.split.validation) == 1
    assert len(study.split.test) == 1
    assert study.split.train == NasStudy.create(tmp_path / "other", config(), seed=4).split.train


def test_a_space_is_read_back_too(study):
    found = replace(study, space=SPACE)
    found.write()

    assert NasStudy.read(study.folder) == found
    assert NasStudy.read(study.folder).known_space() == SPACE


def test_the_papers_settings_are_read_back(tmp_path):
    settings = replace(paper(), data="made", images=5)
    NasStudy.create(tmp_path, settings, seed=0)

    assert NasStudy.read(tmp_path).config == settings


def test_the_parts_share_no_image_and_leave_none_out(study):
    parts = [study.indices(part) for part in ("train", "validation", "test")]

    assert sorted(index for part in parts for index in part) == list(range(10))
    assert [len(part) for part in parts] == [5, 2, 3]
    assert [study.images.names[i] for i in parts[0]] == list(study.split.train)


def test_the_same_seed_deals_the_same_images(tmp_path):
    once, again, other = (NasStudy.create(tmp_path / str(i), config(), seed=seed) for i, seed in enumerate((1, 1, 2)))

    assert once.split == again.split
    assert once.split != other.split


def test_at_most_so_many_images_are_taken_from_a_path(tmp_path):
    data = folder_of_images(tmp_path / "images", 8)

    study = NasStudy.create(tmp_path / "run", config(data=str(data), images=5), seed=0)

    names = [*study.split.train, *study.split.validation, *study.split.test]
    assert len(set(names)) == 5
    assert len(study.images) == 8
    assert all(study.images.names[i] in study.split.test for i in study.indices("test"))


def test_too_few_images_are_refused_and_nothing_is_written(tmp_path):
    data = folder_of_images(tmp_path / "images", 2)

    with pytest.raises(UsageError, match="images' cannot be split into three parts: names holds 2 images"):
        NasStudy.create(tmp_path / "run", config(data=str(data)), seed=0)
    assert not (tmp_path / "run").exists()


def test_no_images_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no '/no/such/images'"):
        NasStudy.create(tmp_path / "run", config(data="/no/such/images"), seed=0)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no study.json: give the folder of a nas run"):
        NasStudy.read(tmp_path)


def damaged(record, **changes):
    return {name: value for name, value in (record | changes).items() if value != "absent"}


@pytest.mark.parametrize(
    "damage",
    [
        {"config": "absent"},
        {"seed": "absent"},
        {"split": "absent"},
        {"space": "absent"},
        {"seed": "four"},
        {"split": {"train": []}},
        {"space": {"full": [96]}},
        {"config": {"flavour": "sweet"}},
        {"config": {"model": "vit_x"}},
        {"config": {"images": -1}},
    ],
    ids=str,
)
def test_a_study_of_another_version_is_refused_in_a_line(study, damage):
    record = read_json(study.folder / "study.json")
    write_json(study.folder / "study.json", damaged(record, **damage))

    with pytest.raises(UsageError, match=r"study.json is not of this version of quatrain") as caught:
        NasStudy.read(study.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", '{"config": {', "[1, 2]", "\x00\x01"])
def test_a_damaged_file_is_refused_in_a_line(study, text):
    (study.folder / "study.json").write_text(text)

    with pytest.raises(UsageError, match=r"study.json is not of this version of quatrain") as caught:
        NasStudy.read(study.folder)
    assert "\n" not in str(caught.value)


def test_an_image_that_has_gone_since_is_named(tmp_path):
    data = folder_of_images(tmp_path / "images", 4)
    study = NasStudy.create(tmp_path / "run", config(data=str(data)), seed=0)
    gone = study.split.test[0]
    for file in data.glob(f"{Path(gone).stem}*"):
        file.unlink()

    with pytest.raises(UsageError, match=f"no longer holds '{gone}': restore it, or start another run"):
        NasStudy.read(tmp_path / "run").indices("test")


def test_a_space_is_missing_before_the_study_is_prepared(study):
    with pytest.raises(UsageError, match="has no space yet: prepare the study first"):
        study.known_space()


def test_exams_are_frozen_and_have_the_size_that_was_asked_for(study):
    once, again = study.eval_set("train", 3), NasStudy.read(study.folder).eval_set("train", 3)

    assert [image.prepared.name for image in once.images] == list(study.split.train[:3])
    assert all(np.array_equal(a.points, b.points) for a, b in zip(once.images, again.images, strict=True))
    assert once.images[0].prepared.image_CHW.shape == (3, TINY.image_px, TINY.image_px)


def test_an_exam_asks_for_no_more_objects_than_configured(tmp_path):
    study = NasStudy.create(tmp_path, config(max_objects=1), seed=4)

    assert all(len(image.points) == 1 for image in study.eval_set("train").images)


def test_training_items_come_from_the_training_images_alone(study):
    items = study.items()

    assert list(items.indices) == study.indices("train")
    assert items[0]["truth"].shape == (study.config.train.prompts, 16, 16)


def test_a_network_has_the_weights_of_its_checkpoint(study):
    weights = build(TINY, 8).state_dict()
    checkpoint.save(study.checkpoints / "finetune.pt", {"model": weights})

    model = study.network("finetune")

    assert isinstance(model.image_encoder, ElasticEncoder)
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_network_that_was_not_trained_is_missed(study):
    with pytest.raises(UsageError, match=r"there is no checkpoint '.*finetune.pt'"):
        study.network("finetune")


def test_the_pretrained_network_is_elastic(study):
    model = study.pretrained()

    assert isinstance(model.image_encoder, ElasticEncoder)
    assert torch.equal(model.image_encoder.pos_embed, build(TINY, 1).image_encoder.pos_embed)


def trained(study, seed):
    checkpoint.save(study.checkpoints / "supernet.pt", {"model": build(TINY, seed).state_dict()})


def position(model):
    return model.image_encoder.pos_embed


def test_a_worker_keeps_study_network_and_exam_between_its_tasks(study):
    replace(study, space=SPACE).write()
    trained(study, 1)
    folder = str(study.folder)

    for load in (studies.opened, lambda f: studies.network(f, "supernet"), lambda f: studies.eval_set(f, "test")):
        assert load(folder) is load(folder)
    assert studies.evaluator(folder, "supernet", "test") is studies.evaluator(folder, "supernet", "test")


def test_weights_that_were_trained_again_are_read_again(study):
    folder = str(study.folder)
    trained(study, 1)
    before = position(studies.network(folder, "supernet"))
    trained(study, 2)

    assert torch.equal(before, build(TINY, 1).image_encoder.pos_embed)
    assert torch.equal(position(studies.network(folder, "supernet")), build(TINY, 2).image_encoder.pos_embed)


def test_a_study_that_was_prepared_since_is_read_again(study):
    folder = str(study.folder)
    assert studies.opened(folder).space is None
    replace(study, space=SPACE).write()

    assert studies.opened(folder).known_space() == SPACE


def test_run_folders_do_not_interfere(tmp_path):
    folders = []
    for seed in range(4):
        made = NasStudy.create(tmp_path / str(seed), config(), seed=seed)
        replace(made, space=SPACE).write()
        trained(made, seed)
        folders.append(str(made.folder))

    for _ in range(2):
        for seed, folder in enumerate(folders):
            assert studies.opened(folder).seed == seed
            assert torch.equal(position(studies.network(folder, "supernet")), build(TINY, seed).image_encoder.pos_embed)
            studies.evaluator(folder, "supernet", "validation").score(SPACE.smallest())
    assert all(len(list((tmp_path / str(seed) / "prefix").iterdir())) == 2 for seed in range(4))
    assert all(cache.cache_info().currsize <= 2 for cache in (studies._opened, studies._network, studies._eval_set))


def test_an_image_that_becomes_unreadable_is_skipped_and_reported_once(tmp_path):
    data = folder_of_images(tmp_path / "images", 8)
    study = NasStudy.create(tmp_path / "run", config(data=str(data)), seed=0)
    bad = study.split.validation[0]
    assert len(study.images) == 8  # listed
    (data / f"{bad}.png").write_bytes(b"no longer an image")

    eval_sets = [study.eval_set("validation") for _ in range(2)]

    assert [len(eval_set) for eval_set in eval_sets] == [len(study.split.validation) - 1] * 2
    (line,) = unreadable(study.folder)
    assert line.startswith(f"{bad}: ")
    assert f"{bad}.png" in line
