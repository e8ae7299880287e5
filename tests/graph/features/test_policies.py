from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from quatrain.errors import UsageError
from quatrain.graph.features import policies as module
from quatrain.graph.features.policies import BUILT_IN, policies, policy_spec

PACKAGE = """
import numpy as np
from quatrain.graph.features.policies import PolicySpec
from quatrain.graph.features.policy import NO_SWAP

SPEC = PolicySpec(name={name!r}, factory="last_rows:LastRows", index_bytes=0, candidates=("halo",))


class LastRows:
    def __init__(self, inputs):
        self.inputs = inputs

    def fill(self):
        return np.arange(self.inputs.candidates.size)[::-1][: self.inputs.capacity]

    def step(self, hits, misses):
        return NO_SWAP
"""
USE = """
import torch
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.cache import FeatureCache
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.source import MemorySource
from quatrain.graph.tuning.tune import TuneConfig

rows = torch.arange(4.0)[:, None]
cache = FeatureCache(MemorySource(rows), HaloTable([1, 3], [9, 1]), CacheConfig(policy="last-rows", fraction=0.5), 1)
assert torch.equal(cache.read(torch.tensor([3, 1])), rows[[3, 1]])
print(cache.lookup(torch.tensor([3, 1])).remote.slot_r.tolist(), "last-rows" in TuneConfig().policies)
"""


def install(folder, name="last-rows", target="last_rows:SPEC"):
    """Install a package with one cache policy in a folder, as pip would."""
    (folder / "last_rows.py").write_text(PACKAGE.format(name=name))
    info = folder / "last_rows-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: last-rows\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[quatrain.cache_policies]\nlast-rows = {target}\n")


@pytest.fixture
def fresh_table():
    policies.cache_clear()
    yield
    policies.cache_clear()


def test_an_installed_package_adds_a_policy_to_configuration_cache_and_tuner(tmp_path):
    install(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", USE], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.stdout == "[0, -1] True\n"


@pytest.mark.parametrize(
    ("name", "target", "problem"),
    [
        ("lfu", "last_rows:SPEC", "the cache policy 'lfu' exists already"),
        ("last-rows", "last_rows:MISSING", "cannot be imported"),
        ("last-rows", "last_rows:LastRows", "must be a PolicySpec"),
    ],
)
@pytest.mark.usefixtures("fresh_table")
def test_an_unusable_policy_of_a_package_is_refused(name, target, problem, tmp_path, monkeypatch):
    install(tmp_path, name, target)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "last_rows", raising=False)

    with pytest.raises(UsageError, match=problem):
        policies()
    monkeypatch.delitem(sys.modules, "last_rows", raising=False)


@pytest.mark.parametrize(("old", "new"), [("schedule", "belady"), ("counts", "lfu")])
def test_an_old_name_is_accepted_with_one_deprecation_line(old, new, caplog):
    module._warn_renamed.cache_clear()
    with caplog.at_level(logging.WARNING):
        specs = [policy_spec(old), policy_spec(old)]

    assert specs == [policies()[new]] * 2
    assert caplog.messages == [
        f"deprecated: the cache policy {old!r} is now {new!r}; the next release drops the old name"
    ]


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'belady'"):
        policy_spec("belad")


def test_names_are_unique_and_old_names_are_not_in_use():
    names = [spec.name for spec in BUILT_IN]

    assert len(set(names)) == len(names)
    assert set(module.RENAMED.values()) <= set(names)
    assert not set(module.RENAMED) & set(names)
