from __future__ import annotations

from pathlib import Path

import pytest
from search_worlds import SAM

from quatrain.errors import UsageError
from quatrain.nas.autotune_config import PRESETS, AutotuneConfig
from quatrain.supernet.cost import encoder_parameters, full_subnet


def test_without_any_limit_the_result_shrinks_to_seventy_percent():
    assert AutotuneConfig().bounds(SAM).max_params == encoder_parameters(SAM, full_subnet(SAM)) * 70 // 100


@pytest.mark.parametrize("limit", [{"max_params": "100%"}, {"max_macs": "50%"}])
def test_a_limit_that_is_given_stands_alone(limit):
    bounds = AutotuneConfig(**limit).bounds(SAM)

    assert (bounds.max_macs is None) == ("max_macs" not in limit)
    assert bounds.max_params is None or bounds.max_params == encoder_parameters(SAM, full_subnet(SAM))


def test_a_limit_on_time_needs_what_was_measured():
    class Slow:
        def ms(self, _subnet) -> float:
            return 50.0

    assert AutotuneConfig(max_latency_ms=90).bounds(SAM, Slow()).max_params is None
    with pytest.raises(ValueError, match="no latency has been measured"):
        AutotuneConfig(max_latency_ms=90).bounds(SAM)


def test_paths_hold_wherever_a_worker_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = AutotuneConfig(supernet=Path("runs/nas-1"), data="images")

    assert config.supernet == tmp_path / "runs/nas-1"
    assert config.data == str(tmp_path / "images")
    assert AutotuneConfig(data="made:seen").data == "made:seen"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"images": 0}, "images is 0"),
        ({"eta": 0}, "eta is 0"),
        ({"finetune_steps": -1}, "finetune_steps is -1"),
        ({"max_latency_ms": -5.0}, "max_latency_ms is -5"),
    ],
)
def test_senseless_numbers_are_refused_with_their_range(wrong, words):
    with pytest.raises(ValueError, match=words):
        AutotuneConfig(**wrong)


def test_limits_and_engines_are_checked_before_anything_runs():
    with pytest.raises(UsageError, match="forty"):
        AutotuneConfig(max_params="forty")
    with pytest.raises(UsageError, match="did you mean 'opentuner'"):
        AutotuneConfig(engine="opentune")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_train_a_supernet_of_the_shipped_model(name):
    config = PRESETS[name]()

    assert config.training().model == "vit_mini"
    assert config.training().train.steps == config.train_steps
