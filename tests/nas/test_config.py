from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.errors import UsageError
from quatrain.files import plain
from quatrain.nas.config import PAPER_REMOVABLE, PRESETS, NasConfig, SearchConfig, SpaceConfig, mini, paper, sam_block
from quatrain.sam.registry import SHAPES, shape
from quatrain.supernet.config import LossConfig, TrainConfig
from quatrain.supernet.cost import encoder_macs, encoder_parameters

STEPS = st.integers(1, 500)


def paper_space():
    return paper().space.space(shape("vit_b"), PAPER_REMOVABLE, (0.5,) * 5)


def test_the_authors_space_has_its_known_size():
    assert paper_space().size() == 12_800_000


def test_the_authors_smallest_network_has_its_known_size():
    sam, smallest = shape("vit_b"), paper_space().smallest()

    assert smallest.kept == (0, 3, 4, 7, 8, 10, 11)
    assert round(encoder_parameters(sam, smallest) / 1e6, 2) == 32.94
    assert round(encoder_macs(sam, smallest) / 1e9, 1) == 191.3


def test_the_authors_space_fixes_the_first_block_alone():
    choices = paper_space().choices

    assert choices[0] == (3072,)
    assert set(choices[1:]) == {(768, 1020, 1536, 2304)}


def test_the_paper_preset_trains_as_the_public_code_does():
    config = paper()

    assert (config.model, config.fit, config.train.rule) == ("vit_b", "squash", "paper")
    assert {config.train.rate(step) for step in range(config.train.steps)} == {1e-5}
    assert config.train.steps * config.train.batch == 2 * 10_000
    assert (config.train.distill, config.train.loss.focal, config.train.loss.iou) == (0, 0, 0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration_that_survives_a_run_folder(name):
    config = PRESETS[name]()

    assert cattrs.structure(plain(config), NasConfig) == config


def test_the_first_preset_is_the_one_for_a_laptop():
    assert next(iter(PRESETS.values())) is mini
    assert mini().model == "vit_mini"
    assert mini().data.startswith("made")


def test_settings_are_read_without_torch():
    code = "import sys, quatrain.nas.config; print(sorted({'torch', 'scipy', 'parsl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@given(STEPS, st.integers(0, 100), st.floats(1e-6, 1), st.sampled_from(["cosine", "constant"]))
def test_the_learning_rate_rises_to_its_highest_and_never_passes_it(steps, warmup, lr, schedule):
    train = TrainConfig(steps=steps, warmup=warmup, lr=lr, schedule=schedule)
    rates = [train.rate(step) for step in range(steps)]

    assert all(0 < rate <= lr * (1 + 1e-12) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert train.rate(warmup) == pytest.approx(lr)


def test_a_cosine_ends_at_a_fiftieth_and_is_at_the_middle_half_way():
    train = TrainConfig(steps=120, warmup=20, lr=1.0)

    assert train.rate(120) == pytest.approx(0.02)
    assert train.rate(70) == pytest.approx(0.51)


def test_a_warm_up_is_a_straight_line():
    train = TrainConfig(steps=100, warmup=4, lr=1.0)

    assert [train.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("sam", SHAPES.values(), ids=SHAPES)
def test_the_usual_widths_of_every_model_reach_from_a_third_to_all(sam):
    choices = SpaceConfig().choices(sam)

    assert len(choices) == sam.depth
    assert choices[0][-1] == sam.hidden
    assert choices[0][0] <= sam.hidden / 3
    assert set(choices) == {choices[0]}


def test_widths_may_be_given_in_any_order_and_twice():
    assert SpaceConfig(widths=(384, 96, 96)).choices(shape("vit_mini"))[0] == (96, 384)


@pytest.mark.parametrize(("name", "blocks"), [("vit_mini", 5), ("vit_b", 5), ("vit_l", 10), ("vit_h", 13)])
def test_the_smallest_conceivable_network_drops_the_costliest_blocks(name, blocks):
    sam = shape(name)
    conceivable = SpaceConfig().smallest_conceivable(sam)

    assert len(conceivable.removable) == blocks
    assert not {0, sam.depth - 1} & set(conceivable.removable)
    assert set(sam.global_blocks[:-1]) <= set(conceivable.removable)


def test_the_smallest_conceivable_network_keeps_to_removable_blocks_that_are_given():
    assert SpaceConfig(removable=(3, 4)).smallest_conceivable(shape("vit_b")).removable == (3, 4)


def test_only_ablations_train_more_than_the_supernet_and_its_rival():
    assert mini().roles == ("supernet", "finetune")
    assert set(replace(mini(), ablations=True).roles) - set(mini().roles) == {"supernet-none", "supernet-random"}


@pytest.mark.parametrize("block", [-1, 12])
def test_a_block_that_a_model_does_not_have_is_refused_with_those_that_it_has(block):
    with pytest.raises(ValueError, match=f"there is no block {block}; vit_b has blocks 0 to 11"):
        sam_block(shape("vit_b"), block)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossConfig(focal=-1), "focal is -1; a weight must be at least 0"),
        (lambda: LossConfig(dice=0, focal=0), "dice, focal and entropy are all 0"),
        (lambda: TrainConfig(steps=0), "steps is 0; it must be at least 1"),
        (lambda: TrainConfig(batch=0), "batch is 0; it must be at least 1"),
        (lambda: LossConfig(others=1.5), "others is 1.5; it must lie between 0 and 1"),
        (lambda: TrainConfig(warmup=-1), "warmup is -1; it must be at least 0"),
        (lambda: TrainConfig(lr=0), "lr is 0; it must be positive"),
        (lambda: TrainConfig(lr=math.nan), "lr is nan; it must be positive"),
        (lambda: TrainConfig(weight_decay=-0.1), "weight_decay is -0.1; it must be at least 0"),
        (lambda: TrainConfig(distill=1.5), "distill is 1.5; it must lie between 0 and 1"),
        (lambda: SpaceConfig(removable_share=1), r"removable_share is 1; it must lie in \[0, 1\)"),
        (lambda: SpaceConfig(drop_probability=2), r"drop_probability is 2; it must lie in \[0, 1\]"),
        (lambda: SearchConfig(evaluations=0), "evaluations is 0; it must be at least 1"),
        (lambda: SearchConfig(random_in_bucket=-1), "random_in_bucket is -1; it must be at least 0"),
        (lambda: NasConfig(images=2), "images is 2; training, validation and test need one each"),
        (lambda: NasConfig(parts=(1, 0, 1)), r"parts are \(1, 0, 1\); each share must be positive"),
        (lambda: NasConfig(max_objects=0), "max_objects is 0; it must be at least 1"),
        (lambda: NasConfig(eval_points=0), "eval_points is 0; it must be at least 1"),
        (lambda: NasConfig(space=SpaceConfig(widths=(64, 400))), r"widths are \[64, 400\]; vit_mini's MLPs take 1"),
        (lambda: NasConfig(space=SpaceConfig(widths=(0,))), r"widths are \[0\]"),
        (lambda: NasConfig(space=SpaceConfig(removable=(12,))), "there is no block 12; vit_mini has blocks 0 to 11"),
        (lambda: NasConfig(space=SpaceConfig(fixed_blocks=(-1,))), "there is no block -1"),
        (lambda: NasConfig(space=SpaceConfig(removable=tuple(range(12)))), "at least one must be kept"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_value_and_the_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NasConfig(model="vit_x"), "there is no model 'vit_x'"),
        (lambda: SearchConfig(engine="opentuna"), "did you mean 'opentuner'"),
        (lambda: NasConfig(search=SearchConfig(max_params="1%")), "no sub-network has at most"),
        (lambda: NasConfig(search=SearchConfig(max_macs="many")), "'many' is not an amount"),
        (lambda: NasConfig(search=SearchConfig(max_params="-5M")), "'-5M' is"),
    ],
)
def test_a_mistake_that_the_user_can_fix_is_a_usage_error(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_removable_blocks_may_be_named_in_any_order():
    assert SpaceConfig(removable=(6, 1, 2, 6)).removable == (1, 2, 6)
    assert SpaceConfig().removable is None
