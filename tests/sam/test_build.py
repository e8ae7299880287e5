from __future__ import annotations

import dataclasses

import pytest
import torch
from supernet_world import TINY, stirred

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.sam import build as models
from quatrain.sam.build import build, load_official, load_weights, pretrained
from quatrain.sam.official import Sam, sam_model_registry
from quatrain.sam.registry import SHAPES


def shapes_of(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def save(path, weights):
    checkpoint.save(path, dict(weights))
    return path


@pytest.fixture
def official(tmp_path):
    """A tiny model that pretends to be published, and its file."""
    path = save(tmp_path / "tiny.pth", stirred(build(TINY, 5)).state_dict())
    shape = dataclasses.replace(TINY, checkpoint_sha256=checkpoint.sha256(path), checkpoint_url="https://sam.example/t")
    return shape, path


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_the_official_models_have_segment_anythings_own_keys_shapes_and_windows(name):
    with torch.device("meta"):
        ours, theirs = build(SHAPES[name], 0), sam_model_registry[name]()

    assert shapes_of(ours) == shapes_of(theirs)
    assert [type(module) for module in ours.modules()] == [type(module) for module in theirs.modules()]
    ours, theirs = ours.image_encoder, theirs.image_encoder
    assert ours.img_size == theirs.img_size
    assert [block.window_size for block in ours.blocks] == [block.window_size for block in theirs.blocks]
    assert [block.attn.num_heads for block in ours.blocks] == [block.attn.num_heads for block in theirs.blocks]


def test_grey_values_are_normalised_as_segment_anything_does():
    model = build(TINY, 0)

    assert model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.pixel_std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = build(TINY, 1).state_dict(), build(TINY, 1).state_dict(), build(TINY, 2).state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image_encoder.pos_embed"], other["image_encoder.pos_embed"])
    assert not torch.equal(first["mask_decoder.iou_token.weight"], other["mask_decoder.iou_token.weight"])


def test_building_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()

    build(TINY, 1)

    assert torch.equal(torch.get_rng_state(), before)


def test_a_built_model_is_in_evaluation_mode_and_reports_patches_apart_by_place():
    model = build(TINY, 0)

    assert not model.training
    assert model.image_encoder.pos_embed.std() > 0.01
    assert all(block.attn.rel_pos_h.std() > 0 for block in model.image_encoder.blocks)


def test_a_published_file_loads(official):
    shape, path = official

    loaded = load_official(shape, path)

    weights = checkpoint.load(path)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


def test_a_file_with_another_hash_is_refused_with_both_hashes(official):
    shape, path = official
    other = dataclasses.replace(shape, checkpoint_sha256="0" * 64)

    with pytest.raises(UsageError, match=f"has SHA-256 {shape.checkpoint_sha256}, not 0{{64}} of the published tiny"):
        load_official(other, path)


def test_a_file_with_another_hash_loads_when_reported_so(official):
    shape, path = official

    model = load_official(dataclasses.replace(shape, checkpoint_sha256="0" * 64), path, verify=False)

    assert isinstance(model, Sam)


def test_a_missing_file_is_named(official, tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint '.*absent.pth'"):
        load_official(official[0], tmp_path / "absent.pth")


def test_a_file_that_is_no_checkpoint_is_named(official, tmp_path):
    (tmp_path / "notes.pth").write_text("weights to follow")

    with pytest.raises(UsageError, match=r"notes.pth' is not a checkpoint") as caught:
        load_official(official[0], tmp_path / "notes.pth", verify=False)

    assert "\n" not in str(caught.value)


def test_a_model_of_our_own_has_no_official_file(tmp_path):
    with pytest.raises(UsageError, match="tiny has no official checkpoint: leave --checkpoint out"):
        load_official(TINY, tmp_path / "any.pth")


def test_a_key_that_is_missing_is_named():
    weights = build(TINY, 0).state_dict()
    del weights["mask_decoder.iou_token.weight"]

    with pytest.raises(
        UsageError, match=r"^x.pth is not a checkpoint of tiny: it lacks 'mask_decoder.iou_token.weight'$"
    ):
        load_weights(build(TINY, 0), weights, "x.pth", "tiny")


def test_a_key_too_many_is_named():
    weights = build(TINY, 0).state_dict() | {"head.bias": torch.zeros(3)}

    with pytest.raises(UsageError, match=r"^x.pth is not a checkpoint of tiny: it has 'head.bias'$"):
        load_weights(build(TINY, 0), weights, "x.pth", "tiny")


@pytest.mark.parametrize(("value", "got"), [(torch.zeros(2, 2), r"\(2, 2\)"), ("none", r"\(\)")])
def test_a_value_of_another_shape_is_named_with_both(value, got):
    weights = build(TINY, 0).state_dict() | {"mask_decoder.iou_token.weight": value}

    with pytest.raises(UsageError, match=rf"'mask_decoder.iou_token.weight' is {got}, not \(1, 16\)$"):
        load_weights(build(TINY, 0), weights, "x.pth", "tiny")


def test_weights_of_another_model_are_refused_at_the_first_difference():
    wider = build(dataclasses.replace(TINY, embed_dim=48), 0)
    model = build(TINY, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(UsageError, match=r"'image_encoder.blocks.0.attn.proj.bias' is \(48,\), not \(24,\)$"):
        load_weights(model, wider.state_dict(), "x.pth", "tiny")

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_official_model_without_a_path_says_where_to_get_it():
    with pytest.raises(UsageError, match=r"vit_b needs --checkpoint PATH: get https://dl.fbaipublicfiles.com/.*vit_b"):
        pretrained("vit_b")


def test_an_unknown_model_is_answered_with_the_nearest_name():
    with pytest.raises(UsageError, match="there is no model 'vit_min': did you mean 'vit_mini'"):
        pretrained("vit_min")


def test_a_path_leads_to_the_official_weights(official, monkeypatch):
    shape, path = official
    monkeypatch.setitem(SHAPES, "tiny", shape)

    model = pretrained("tiny", path)

    assert torch.equal(model.mask_decoder.iou_token.weight, checkpoint.load(path)["mask_decoder.iou_token.weight"])


def test_the_shipped_miniature_loads_and_is_small():
    model = pretrained("vit_mini")

    assert model.image_encoder.img_size == 256
    assert sum(4 * value.numel() for value in model.state_dict().values()) < 8e6


def test_shipped_weights_that_are_missing_are_reported_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(models.resources, "files", lambda _: tmp_path)

    with pytest.raises(UsageError, match=r"there is no checkpoint '.*vit_mini.pth'"):
        models.load_mini()
