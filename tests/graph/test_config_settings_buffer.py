from __future__ import annotations

import subprocess
import sys

import cattrs
import pytest

from quatrain.errors import UsageError
from quatrain.files import plain
from quatrain.graph.config import POLICIES, CacheConfig, reference_quirks
from quatrain.graph.features.policies import POLICIES as BUILT


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("fraction", -0.1, "between 0 and 1"),
        ("fraction", 1.01, "between 0 and 1"),
        ("fraction", float("nan"), "between 0 and 1"),
        ("decay", 0.0, "between 0 and 1"),
        ("decay", 1.0, "between 0 and 1"),
        ("window", 0, "at least 1"),
        ("alpha_decimals", 0, "at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name, value, allowed):
    with pytest.raises(ValueError, match=rf"{name} is {value}; it must .*{allowed}"):
        CacheConfig(**{name: value})


@pytest.mark.parametrize("policy", ["paper", "counts"])
def test_a_policy_that_evicts_needs_steps_between_evictions(policy):
    with pytest.raises(ValueError, match=f"interval is 0; '{policy}' needs at least 1 step"):
        CacheConfig(policy=policy, interval=0)


def test_only_a_schedule_can_leave_rows_to_the_batch_before():
    with pytest.raises(ValueError, match="only 'schedule' knows what to leave to it, 'counts' does not"):
        CacheConfig(policy="counts", carry=True)


def test_float16_on_the_wire_is_off_unless_asked_for_and_needs_a_buffer():
    assert [CacheConfig(policy=policy).wire for policy in POLICIES] == ["float32"] * len(POLICIES)
    with pytest.raises(ValueError, match="wire is 'float16'; 'none' reads features as DistDGL does"):
        CacheConfig(policy="none", wire="float16")
    assert CacheConfig(wire="float16").of_policy("none").wire == "float32"


def test_degrees_outside_the_halo_are_asked_of_nobody():
    with pytest.raises(ValueError, match="candidates is 'remote'; 'static-degree' knows degrees of the halo only"):
        CacheConfig(policy="static-degree", candidates="remote")


@pytest.mark.parametrize(
    ("policy", "best"),
    [("schedule", ("remote", True, 8)), ("presample", ("halo", False, 64)), ("counts", ("halo", False, 64))],
)
def test_what_is_left_out_is_the_best_for_the_policy_and_what_is_given_stays(policy, best):
    left, given = CacheConfig(policy=policy), CacheConfig(policy=policy, candidates="halo", carry=False, window=3)

    assert (left.among, left.carries, left.known_steps) == best
    assert (given.among, given.carries, given.known_steps) == ("halo", False, 3)


def test_a_policy_that_never_evicts_takes_no_interval():
    assert CacheConfig(policy="static-degree", interval=0).interval == 0


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("policy", "count", "counts"),
        ("candidates", "hallo", "halo"),
        ("score_transfer", "papper", "paper"),
        ("victims", "lowest_score", "lowest-score"),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_nearest(name, value, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        CacheConfig(**{name: value})


def test_every_policy_of_the_settings_can_be_built():
    assert tuple(BUILT) == POLICIES


def test_rows_are_the_floor_of_the_share_and_none_without_a_policy():
    assert CacheConfig(fraction=0.25).rows(1003) == 250
    assert CacheConfig(fraction=1).rows(1003) == 1003
    assert CacheConfig(policy="none").rows(1003) == 0


def test_the_quirks_of_the_authors_code_are_off_unless_asked_for():
    config, quirky = CacheConfig(policy="paper"), reference_quirks()

    assert (config.alpha_decimals, config.victims, config.count_on_eviction) == (None, "lowest-score", True)
    assert (quirky.alpha_decimals, quirky.victims, quirky.count_on_eviction) == (3, "id-order", False)


def test_settings_survive_json():
    config = reference_quirks(fraction=0.5, interval=25)

    assert cattrs.structure(plain(config), CacheConfig) == config


def test_settings_need_neither_torch_nor_dgl():
    code = "import sys, quatrain.graph.config; print({'torch', 'dgl', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
