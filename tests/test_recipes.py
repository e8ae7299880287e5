"""The recipes of CONTRIBUTING.md, followed to the letter: the code of the page, used through the public functions."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from quatrain.data import decode
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.features.policies import policies
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import Trace, TraceSetup
from quatrain.hpc import site_registry
from quatrain.micrograph import BoostConfig, MergingConfig, boost, merging_rules
from quatrain.micrograph import config as micrograph_config
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.engines.registry import check_engine, make_engine
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.space import Space

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf8")
BLOCK = re.compile(r"<!-- recipe: ([^>]+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = dict(BLOCK.findall(PAGE))
MODULES = {name: code for name, code in RECIPES.items() if name.endswith(".py") and name != "merging_rules.py"}
ENTRY_POINT = re.compile(r'^\[project\.entry-points\."(.+)"\]\n(\S+) = "(.+)"$', re.MULTILINE)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the modules and entry points of the page as one package; return its folder."""
    for name, code in MODULES.items():
        (tmp_path / name).write_text(code)
    info = tmp_path / "recipes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recipes\nVersion: 1.0\n")
    points = ENTRY_POINT.findall(RECIPES["entry points"])
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {to}\n" for group, name, to in points))
    monkeypatch.syspath_prepend(tmp_path)
    for table in (policies, decode.readers):
        table.cache_clear()
    yield tmp_path
    for table in (policies, decode.readers):
        table.cache_clear()
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_recipe_of_a_cache_policy_adds_one_that_a_replay_runs(installed):
    steps = np.array([1, 5, 1, 5, 3])
    trace = Trace(
        setup=TraceSetup(halo=HaloTable([1, 3, 5, 7], [9, 8, 1, 1]), dim=2, vertex_count=8),
        vertices=steps,
        end=np.arange(1, 6),
        local=np.zeros(5, np.int64),
        epoch=np.zeros(5, np.int64),
    )

    counts = replay(trace, CacheConfig(policy="fifo", fraction=0.5))

    assert counts.buffer_rows == 2
    assert counts.halo_hits.tolist() == [1, 0, 0, 1, 0]  # 5 replaces 1, then 1 replaces 3, then 3 replaces 5
    assert counts.remote_rows.tolist() == [0, 1, 1, 0, 1]


def test_the_recipe_of_a_search_engine_adds_one_that_builds_on_the_best_network(installed):
    sam = shape("vit_mini")
    space = Space(
        full=full_subnet(sam).widths, choices=((96, 384),) * sam.depth, removable=(1, 2), drop_probability=(0.5, 0.5)
    )
    check_engine("crossover")
    engine, again = (make_engine("crossover", space, Bounds(sam=sam), 3) for _ in range(2))
    for one in (engine, again):
        one.tell(space.smallest(), 0.1)
        one.tell(space.largest(), 0.9)

    asked = [engine.ask() for _ in range(20)]

    for subnet in asked:
        space.check(subnet)
    assert asked == [again.ask() for _ in range(20)]
    assert np.mean([subnet.widths[0] == 384 for subnet in asked]) > 0.8


def test_the_recipe_of_a_site_adds_one_by_name_and_by_file(installed):
    by_name = site_registry.find("two-gpus")

    assert (by_name.name, by_name.gpu_workers) == ("two-gpus", 2)
    assert "two-gpus" in site_registry.names()
    assert site_registry.find(str(installed / "two_gpus.py")) == by_name


def test_the_recipe_of_a_merging_rule_adds_one_that_boost_applies(monkeypatch):
    name, rule = follow_merging_recipe()
    monkeypatch.setattr(micrograph_config, "MERGERS", (*micrograph_config.MERGERS, name))
    monkeypatch.setitem(merging_rules.MERGING_RULES, name, rule)
    image, truth_HW = stripes_beside_noise()

    result = boost(image, [truth_HW == 1, truth_HW == 2], k=2, config=BoostConfig(merging=MergingConfig(rule=name)))

    assert result.merging.rule == name
    assert result.materials == 2
    assert np.mean((result.labels == result.labels[0, 0]) == (truth_HW == truth_HW[0, 0])) > 0.99


def follow_merging_recipe():
    """Return name and row of the rule, evaluated as if the page's code stood in merging_rules.py."""
    row = re.search(r'^   `("\w+": MergingRule\(.+\)),`', PAGE, re.MULTILINE)[1]
    module = dict(vars(merging_rules))
    exec(f"from __future__ import annotations\n{RECIPES['merging_rules.py']}\nROWS = {{{row}}}", module)
    ((name, rule),) = module["ROWS"].items()
    return name, rule


def stripes_beside_noise(side=192):
    """Return a synthetic image of two textures, uint8 (H, W), and its materials, int64 (H, W)."""
    stripes = np.broadcast_to(127 + 60 * np.sin(2 * np.pi * np.arange(side) / 7), (side, side))
    noise = 127 + 40 * np.random.default_rng(0).standard_normal((side, side))
    truth_HW = np.broadcast_to(np.where(np.arange(side) < side * 5 // 8, 1, 2), (side, side))
    return np.clip(np.where(truth_HW == 1, stripes, noise), 0, 255).astype(np.uint8), truth_HW


def test_the_recipe_of_an_image_format_adds_one_that_is_read(installed):
    grey = np.random.default_rng(0).integers(0, 4000, (24, 40)).astype(np.uint16)
    np.save(installed / "a.npy", grey)
    (installed / "torn.npy").write_bytes((installed / "a.npy").read_bytes()[:200])

    image = decode.read(installed / "a.npy")

    assert np.array_equal(image.pixels, grey)
    assert (image.info.shape, image.info.dtype) == ((24, 40), "uint16")
    with pytest.raises(decode.UnreadableError, match="it cannot be decoded"):
        decode.read(installed / "torn.npy")


def test_every_recipe_has_a_block_of_at_most_15_lines():
    headings = re.findall(r"^### Add an? (.+)$", PAGE, re.MULTILINE)

    assert headings == ["cache policy", "search engine", "site", "merging rule", "image format"]
    assert len(RECIPES) == len(headings) + 1
    assert {name: len(code.splitlines()) for name, code in RECIPES.items() if len(code.splitlines()) > 15} == {}
