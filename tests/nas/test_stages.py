from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from supernet_world import TINY, rand

import quatrain
from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.files import append_line, read_json, read_lines
from quatrain.nas import stages, train
from quatrain.nas.config import NasConfig, SearchConfig, SpaceConfig
from quatrain.nas.study import NasStudy
from quatrain.sam.build import build
from quatrain.sam.registry import SHAPES
from quatrain.search.evaluations import joined
from quatrain.supernet import latency
from quatrain.supernet.config import TrainConfig
from quatrain.supernet.cost import encoder_parameters, full_subnet
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.latency import Timing
from quatrain.supernet.space import Subnet

CONFIG = {"model": "tiny", "data": "made", "images": 10, "train": TrainConfig(steps=2, batch=2, prompts=2)}
SEED = 3


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", TINY)
        patch.setattr("quatrain.nas.study.pretrained", lambda *_, **__: build(TINY, 1))
        yield


@pytest.fixture(scope="module")
def prepared(_tiny, tmp_path_factory):
    """A run folder after `prepare`, and what that returned."""
    folder = tmp_path_factory.mktemp("study")
    return folder, stages.prepare(str(folder), NasConfig(**CONFIG), SEED)


@pytest.fixture(scope="module")
def delivered(prepared):
    """A run folder after every step, the found net's key, and the path of its checkpoint."""
    folder, _ = prepared
    for role in ("supernet", "finetune"):
        assert train.main([str(folder), "--role", role]) == 0
    key = NasStudy.read(folder).known_space().smallest().key
    stages.gather_training(str(folder))
    stages.illustrate(str(folder), key, count=2)
    return folder, key, stages.deliver(str(folder), key)


def start(folder, name):
    return checkpoint.load(folder / "checkpoints" / f"{name}.pt")["model"]


def test_preparing_returns_the_split_the_space_and_the_first_figure(prepared):
    _, reported = prepared

    assert reported["split"] == {"train": 5, "validation": 2, "test": 3}
    assert reported["skipped"] == []
    assert reported["space"]["removable"] == (1, 2)
    assert 0 <= reported["few_shot_miou"] <= 1
    json.dumps(reported)


def test_preparing_finds_the_space(prepared):
    space = NasStudy.read(prepared[0]).known_space()

    assert space.full == full_subnet(TINY).widths
    assert space.removable == (1, 2)
    assert space.drop_probability == (0.5, 0.5)


def test_preparing_reports_what_blocks_are_worth(prepared):
    record = read_json(prepared[0] / "importance.json")

    assert len(record["importance"]) == 4
    assert record["baseline_miou"] == prepared[1]["few_shot_miou"]
    assert (record["removable"], record["probability"], record["global_blocks"]) == ([1, 2], [0.5, 0.5], [1, 3])


def test_starting_weights_are_those_of_the_pretrained_net_in_three_orders(prepared):
    folder, _ = prepared
    weights = {name: start(folder, name) for name in ("start", "start-none", "start-random")}
    pretrained = build(TINY, 1).state_dict()

    assert all(torch.equal(weights["start-none"][name], value) for name, value in pretrained.items())
    image = rand(1, 3, TINY.image_px, TINY.image_px)
    embeddings = {}
    for name, state in weights.items():
        model = build(TINY, 0)
        model.load_state_dict(state)
        with torch.no_grad():
            embeddings[name] = model.image_encoder(image)
        first = state["image_encoder.blocks.0.mlp.lin1.weight"]
        assert sorted(first.sum(dim=1).tolist()) == pytest.approx(
            sorted(pretrained["image_encoder.blocks.0.mlp.lin1.weight"].sum(dim=1).tolist())
        )
        torch.testing.assert_close(embeddings[name], embeddings["start"], rtol=1e-4, atol=1e-5)
    assert not torch.equal(*(weights[n]["image_encoder.blocks.0.mlp.lin1.weight"] for n in ("start", "start-random")))


def test_preparing_twice_gives_the_same_study(prepared, tmp_path):
    folder, reported = prepared

    assert stages.prepare(str(tmp_path), NasConfig(**CONFIG), SEED) == reported
    assert (tmp_path / "study.json").read_text() == (folder / "study.json").read_text()
    first, second = start(folder, "start"), start(tmp_path, "start")
    assert all(torch.equal(value, first[name]) for name, value in second.items())


def test_blocks_named_by_the_user_are_removable_whatever_they_are_worth(tmp_path):
    config = NasConfig(**CONFIG, space=SpaceConfig(removable=(2,), drop_by_rank=True, widths=(10, 96)))

    space = stages.prepare(str(tmp_path), config, SEED)["space"]

    assert (space["removable"], space["drop_probability"]) == ((2,), (0.8,))
    assert space["choices"] == ((10, 96),) * 4


def test_a_bound_that_no_net_can_keep_is_refused_before_weights_are_written(tmp_path):
    with pytest.raises(UsageError, match="no sub-network has at most 10 parameters"):
        stages.prepare(str(tmp_path), NasConfig(**CONFIG, search=SearchConfig(max_params="10")), SEED)

    assert not (tmp_path / "checkpoints").exists()


def test_images_without_an_object_end_with_a_line(tmp_path):
    data = tmp_path / "images"
    data.mkdir()
    for i in range(4):
        for name in (f"{i}.png", f"{i}_truth.png"):
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(data / name)

    with pytest.raises(UsageError, match=r"has an object: check their truth|no image that can be used"):
        stages.prepare(str(tmp_path / "run"), replace(NasConfig(**CONFIG), data=str(data)), SEED)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_measuring_gives_the_figures_of_a_sub_network(prepared, part):
    folder, reported = prepared

    figures = stages.measure(str(folder), "start", "96-0-48-96", part)

    assert figures.keys() == {"miou_oracle", "miou_chosen", "objects", "images"}
    assert figures["images"] == reported["split"][part]
    assert 0 <= figures["miou_chosen"] <= figures["miou_oracle"] <= 1
    assert figures == stages.measure(str(folder), "start", "96-0-48-96", part)


def test_the_full_net_scores_the_same_in_every_order_of_channels(prepared):
    folder, _ = prepared
    figures = [
        stages.measure(str(folder), weights, full_subnet(TINY).key, "validation")["miou_oracle"]
        for weights in ("start", "start-none", "start-random")
    ]

    assert figures == pytest.approx([figures[0]] * 3, abs=0.02)


def test_latency_is_reported_for_each_net_in_order(prepared, monkeypatch):
    folder, _ = prepared
    small = "24-0-0-24"
    rounds = []

    def run(_encoder, image_13SS, subnet):
        assert image_13SS.shape == (1, 3, TINY.image_px, TINY.image_px)
        rounds.append(subnet.key)

    monkeypatch.setattr(ElasticEncoder, "forward", run)
    first, second, third = stages.latency(str(folder), [full_subnet(TINY).key, small, full_subnet(TINY).key])

    assert rounds == [full_subnet(TINY).key, small] * Timing().passes  # in turn, equal nets once
    assert first == third != second
    assert read_json(folder / "progress" / "latency.json")["done"] == 2 * Timing().passes


def test_the_time_of_a_pass_is_positive(prepared):
    folder, _ = prepared

    assert stages.latency(str(folder), ["24-0-0-24"])[0] > 0


def test_the_delivered_net_is_a_stock_sam_of_the_found_size(delivered):
    folder, key, path = delivered

    model = quatrain.load_sam(folder / path)

    assert path == "checkpoints/best.pth"
    counted = sum(parameter.numel() for parameter in model.image_encoder.parameters())
    assert counted == encoder_parameters(TINY, Subnet.parse(key))


@torch.no_grad()
def test_the_delivered_net_computes_what_the_supernet_does(delivered):
    folder, key, path = delivered
    image = rand(1, 3, TINY.image_px, TINY.image_px)

    expected = NasStudy.read(folder).network("supernet").image_encoder(image, Subnet.parse(key))
    ours = quatrain.load_sam(folder / path).image_encoder(image)

    assert (ours - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_examples_show_image_truth_and_both_nets(delivered):
    folder, _, _ = delivered
    examples = read_json(folder / "examples.json")

    assert [example["name"] for example in examples] == list(NasStudy.read(folder).split.test[:2])
    for example in examples:
        for picture in ("image", "truth", "pretrained", "found"):
            with Image.open(folder / example[picture]) as image:
                assert image.size == (32, 32)
        assert 0 <= example["iou_pretrained"] <= 1
        assert 0 <= example["iou_found"] <= 1


def test_training_is_gathered_as_a_line_a_step_and_network(delivered):
    lines = list(read_lines(delivered[0] / "training.jsonl"))

    seen = [(line["run"], line["step"], line["net"]) for line in lines]
    assert seen == [
        ("finetune", 1, "full"),
        ("finetune", 2, "full"),
        *(("supernet", step, net) for step in (1, 2) for net in ("largest", "smallest", "random 1", "random 2")),
    ]
    assert all(line.keys() == {"run", "step", "net", "loss", "lr", "seconds"} for line in lines)
    with h5py.File(delivered[0] / "results.h5") as file:
        assert file["training/loss"].shape == (len(seen),)


def test_steps_that_a_resumed_run_repeats_are_gathered_once(tmp_path):
    for step, loss in ((1, 5.0), (2, 4.0), (2, 3.0), (3, 2.0)):
        line = {"step": step, "lr": 0.1, "seconds": 1.0, "losses": {"full": loss}}
        append_line(tmp_path / "training-finetune.jsonl", line)

    stages.gather_training(str(tmp_path))

    lines = read_lines(tmp_path / "training.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 5.0), (2, 3.0), (3, 2.0)]


def test_a_sub_network_of_another_size_is_refused(prepared):
    with pytest.raises(ValueError, match="subnet is 96-96; tiny takes 4 widths of at most 96"):
        stages.measure(str(prepared[0]), "start", "96-96", "test")


def test_stretches_of_a_part_add_up_to_the_whole_part(delivered):
    folder, key, _ = delivered
    count = stages.eval_size(str(folder), "validation")
    stretches = [stages.measure(str(folder), "supernet", key, "validation", at, at + 1) for at in range(count)]

    whole = reduce(joined, stretches)

    assert whole == pytest.approx(stages.measure(str(folder), "supernet", key, "validation"))


def test_greedy_removal_makes_its_own_blocks_removable_and_records_their_order(tmp_path):
    config = NasConfig(**CONFIG, space=SpaceConfig(greedy=True, removable_share=0.5, drop_by_rank=True))

    space = stages.prepare(str(tmp_path), config, SEED)["space"]

    record = read_json(tmp_path / "importance.json")
    assert sorted(record["greedy"]) == [1, 2]
    assert dict(zip(space["removable"], space["drop_probability"], strict=True)) == pytest.approx(
        dict(zip(record["greedy"], (0.8, 0.2), strict=True))
    )


def test_the_latency_table_of_a_study_predicts_its_networks(prepared):
    folder, _ = prepared

    table = latency.read(folder / stages.latency_table(str(folder), checks=1))

    assert len(table["checks"]) == 3
    assert latency.predict(table, NasStudy.read(folder).known_space().smallest()) > 0


def test_the_kept_prefix_is_made_while_networks_are_measured_and_removed_afterwards(delivered):
    folder, key, _ = delivered
    before = stages.measure(str(folder), "supernet", key, "validation")
    assert list((folder / "prefix").glob("*/*.npy"))

    stages.forget_prefix(str(folder))
    stages.forget_prefix(str(folder))

    assert not (folder / "prefix").exists()
    assert stages.measure(str(folder), "supernet", key, "validation") == before
