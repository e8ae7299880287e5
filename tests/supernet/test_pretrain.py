from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from supernet_world import TINY

from quatrain import checkpoint
from quatrain.files import read_lines
from quatrain.sam.build import build, load_weights
from quatrain.sam.registry import shape
from quatrain.supernet import pretrain
from quatrain.supernet.config import TrainConfig
from quatrain.supernet.pretrain import PretrainStage, resized, stages

SHORT = TrainConfig(steps=2, batch=2, prompts=2, warmup=1)
PLAN = (PretrainStage(image_px=32, train=SHORT), PretrainStage(image_px=64, train=replace(SHORT, steps=1)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder after a tiny pretraining, and its scores."""
    folder = tmp_path_factory.mktemp("pretraining")
    return folder, pretrain.pretrain(folder, PLAN, held_out=2)


def test_two_stages_end_with_weights_of_the_last_size(made):
    folder, _ = made
    last = build(replace(shape("vit_mini"), image_px=64), 0)

    load_weights(last, checkpoint.load(folder / "vit_mini.pth"), "vit_mini.pth", "vit_mini")


def test_the_model_card_reports_data_training_and_held_out_figures(made):
    folder, scores = made
    card = (folder / "vit_mini.md").read_text(encoding="utf8")

    assert card.startswith("# vit_mini\n")
    assert "2 steps of 2 images at 32 px, 2 prompts each; 1 steps of 2 images at 64 px, 2 prompts each" in card
    assert "| data | 6 made micrographs of " in card
    assert f"2 made images, {scores.objects} objects" in card
    assert f"| mIoU, best of three masks | {scores.miou_oracle:.3f} |" in card
    assert f"| mIoU, mask chosen by predicted IoU | {scores.miou_chosen:.3f} |" in card
    weights = checkpoint.load(folder / "vit_mini.pth")
    buffers = ("pixel_mean", "pixel_std", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix")
    assert f"| parameters | {sum(v.numel() for n, v in weights.items() if n not in buffers):,} |" in card


def test_every_step_of_every_stage_is_noted(made):
    lines = list(read_lines(made[0] / "pretrain.jsonl"))

    assert [(line["stage"], line["step"]) for line in lines] == [(0, 1), (0, 2), (1, 1)]
    assert all(line["loss"] > 0 and line["seconds"] > 0 for line in lines)


def test_a_pretraining_that_is_started_again_repeats_nothing_and_ends_the_same(made):
    folder, scores = made
    before = checkpoint.load(folder / "vit_mini.pth")

    assert pretrain.pretrain(folder, PLAN, held_out=2) == scores

    assert len(list(read_lines(folder / "pretrain.jsonl"))) == 3
    after = checkpoint.load(folder / "vit_mini.pth")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_stage_goes_on_where_the_one_before_ended(made):
    small, large = (checkpoint.load(made[0] / f"stage-{number}.pt")["model"] for number in (0, 1))

    name = "image_encoder.blocks.0.mlp.lin1.weight"
    fresh = build(replace(shape("vit_mini"), image_px=64), pretrain.SEED).state_dict()[name]
    assert (large[name] - small[name]).abs().max() < (large[name] - fresh).abs().max() + 1e-6
    assert (large[name] - small[name]).abs().max() <= 2 * SHORT.lr


def test_weights_of_the_same_size_stay_to_the_bit():
    state = build(TINY, 1).state_dict()

    fitted = resized(state, build(TINY, 2).state_dict())

    assert fitted.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in fitted.items())


def test_weights_fit_into_a_model_of_another_size():
    larger = replace(TINY, image_px=64)
    state, wanted = build(TINY, 1).state_dict(), build(larger, 2).state_dict()

    fitted = resized(state, wanted)

    assert {name: value.shape for name, value in fitted.items()} == {name: v.shape for name, v in wanted.items()}
    window = "image_encoder.blocks.0.attn.rel_pos_h"
    assert torch.equal(fitted[window], state[window])


def test_positions_are_interpolated():
    ramp = torch.linspace(0, 1, 4)
    state = {"pos_embed": ramp.expand(4, 4)[None, ..., None].clone(), "rel_pos_h": torch.linspace(-1, 1, 7)[:, None]}

    fitted = resized(state, {"pos_embed": torch.empty(1, 8, 8, 1), "rel_pos_h": torch.empty(15, 1)})

    rows = fitted["pos_embed"][0, :, :, 0]
    assert torch.allclose(rows, rows[:1].expand(8, 8), atol=1e-6)
    assert (rows[0, 1:-1].diff() > 0).all()
    assert rows.mean().item() == pytest.approx(0.5, abs=1e-5)
    relative = fitted["rel_pos_h"][:, 0]
    assert (relative.diff() >= 0).all()
    assert torch.allclose(relative, -relative.flip(0), atol=1e-6)


def test_the_shipped_settings_end_at_the_miniatures_own_size():
    sizes = [stage.image_px for stage in stages()]
    assert sizes == sorted(sizes)
    assert sizes[-1] == shape("vit_mini").image_px
    assert all(stage.train.loss.iou > 0 for stage in stages())


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_a_call_without_a_folder_reports_how_to_call_it(arguments):
    with pytest.raises(SystemExit, match=r"usage: python -m quatrain.supernet.pretrain OUT_DIR"):
        pretrain.main(arguments)
