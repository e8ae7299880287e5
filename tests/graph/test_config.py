import subprocess
import sys
from dataclasses import replace

import cattrs
import pytest

from quatrain.errors import UsageError
from quatrain.files import plain
from quatrain.graph.config import (
    PRESETS,
    CacheConfig,
    ClusterConfig,
    GnnConfig,
    SyntheticConfig,
    TrainConfig,
    mini,
    paper,
    reference_quirks,
)
from quatrain.graph.features.policies import BUILT_IN
from quatrain.graph.study import GnnStudy

POLICIES = [spec.name for spec in BUILT_IN]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_unchanged_after_a_run_folder(name, tmp_path):
    study = GnnStudy(folder=tmp_path, config=PRESETS[name](), seed=3)
    study.write()

    assert GnnStudy.read(tmp_path) == study


def test_the_paper_preset_has_the_published_values():
    train = paper().train

    assert (train.batch, train.fanout, train.hidden, train.lr, train.dropout) == (2000, (10, 25), 16, 0.003, 0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SyntheticConfig(vertices=3), "vertices is 3"),
        (lambda: SyntheticConfig(degree=0.0), "degree is 0"),
        (lambda: SyntheticConfig(features=0), "features is 0"),
        (lambda: SyntheticConfig(classes=1), "classes is 1"),
        (lambda: ClusterConfig(machines=0), "0 x 1"),
        (lambda: ClusterConfig(port=80), "port is 80"),
        (lambda: TrainConfig(epochs=0), "epochs is 0"),
        (lambda: TrainConfig(fanout=()), "fanout is"),
        (lambda: TrainConfig(fanout=(10, 300)), "1 to 255"),
        (lambda: TrainConfig(dropout=1.0), "dropout is 1"),
        (lambda: TrainConfig(lr=0.0), "lr is 0"),
        (lambda: TrainConfig(look_ahead=-1), "look_ahead is -1"),
        (lambda: GnnConfig(data="made:tree"), "made:community and made:rmat"),
        (lambda: GnnConfig(cluster=ClusterConfig(share_buffer=True), buffer=CacheConfig(policy="belady")), "lfu"),
    ],
)
def test_a_bad_value_is_refused_with_the_value_and_the_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_policy_to_compare_with_must_be_known():
    with pytest.raises(UsageError, match="did you mean 'belady'"):
        GnnConfig(compare=("belad",))


def test_paths_become_absolute_in_the_drivers_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert GnnConfig(data="ogbn_arxiv").data == str(tmp_path / "ogbn_arxiv")


def test_a_study_of_another_version_is_refused(tmp_path):
    GnnStudy(folder=tmp_path, config=GnnConfig(), seed=0).write()
    path = tmp_path / "gnn.json"
    path.write_text(path.read_text().replace('"hidden"', '"hiden"'))

    with pytest.raises(UsageError, match=r"no gnn\.json of this version"):
        GnnStudy.read(tmp_path)


def test_settings_need_neither_torch_nor_dgl_nor_numpy():
    code = "import sys, quatrain.graph.config; print({'torch', 'dgl', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_replaced_settings_are_checked():
    with pytest.raises(ValueError, match="fraction"):
        replace(GnnConfig().buffer, fraction=1.5)


def test_a_policy_to_compare_gets_only_the_settings_that_it_allows():
    carries = GnnConfig(buffer=CacheConfig(policy="belady", carry=True, candidates="remote"), compare=("none",))

    assert carries.with_policy("belady").buffer == carries.buffer
    assert not carries.with_policy("lfu").buffer.effective_carry
    assert carries.with_policy("lfu").buffer.effective_candidates == "remote"
    assert carries.with_policy("static-degree").buffer.effective_candidates == "halo"


@pytest.mark.parametrize("name", ["mini", "default"])
def test_without_flags_the_policy_is_the_best_lossless_one(name):
    buffer = PRESETS[name]().buffer

    assert (buffer.policy, buffer.effective_candidates, buffer.effective_carry, buffer.effective_window) == (
        "belady",
        "remote",
        True,
        8,
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_a_preset_takes_any_policy_as_its_only_change(policy):
    changed = replace(mini(), buffer=replace(mini().buffer, policy=policy))

    assert changed.buffer.effective_carry == (policy == "belady")


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


@pytest.mark.parametrize("policy", ["paper", "lfu"])
def test_a_policy_with_an_interval_needs_at_least_1_step(policy):
    with pytest.raises(ValueError, match=f"interval is 0; '{policy}' needs at least 1 step"):
        CacheConfig(policy=policy, interval=0)


def test_only_belady_reuses_rows_of_the_previous_batch():
    with pytest.raises(ValueError, match="'lfu' cannot reuse rows of the previous batch: choose 'belady'"):
        CacheConfig(policy="lfu", carry=True)


def test_float16_is_off_by_default_and_needs_a_cache():
    assert [CacheConfig(policy=policy).wire for policy in POLICIES] == ["float32"] * len(POLICIES)
    with pytest.raises(ValueError, match="wire is 'float16'; 'none' reads features as DistDGL does"):
        CacheConfig(policy="none", wire="float16")
    assert CacheConfig(wire="float16").with_policy("none").wire == "float32"


def test_static_degree_allows_only_halo_candidates():
    with pytest.raises(ValueError, match="candidates is 'remote'; 'static-degree' allows only 'halo'"):
        CacheConfig(policy="static-degree", candidates="remote")


@pytest.mark.parametrize(
    ("policy", "best"),
    [("belady", ("remote", True, 8)), ("presample", ("halo", False, 64)), ("lfu", ("halo", False, 64))],
)
def test_defaults_depend_on_the_policy_and_given_values_are_used(policy, best):
    left, given = CacheConfig(policy=policy), CacheConfig(policy=policy, candidates="halo", carry=False, window=3)

    assert (left.effective_candidates, left.effective_carry, left.effective_window) == best
    assert (given.effective_candidates, given.effective_carry, given.effective_window) == ("halo", False, 3)


def test_a_policy_without_interval_accepts_0():
    assert CacheConfig(policy="static-degree", interval=0).interval == 0


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("policy", "belad", "belady"),
        ("candidates", "hallo", "halo"),
        ("score_transfer", "papper", "paper"),
        ("victims", "lowest_score", "lowest-score"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest_one(name, value, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        CacheConfig(**{name: value})


def test_the_capacity_is_the_floor_of_the_share_and_0_without_a_cache():
    assert CacheConfig(fraction=0.25).capacity(1003) == 250
    assert CacheConfig(fraction=1).capacity(1003) == 1003
    assert CacheConfig(policy="none").capacity(1003) == 0


def test_the_quirks_of_the_authors_code_are_off_by_default():
    config, quirky = CacheConfig(policy="paper"), reference_quirks()

    assert (config.alpha_decimals, config.victims, config.count_on_eviction) == (None, "lowest-score", True)
    assert (quirky.alpha_decimals, quirky.victims, quirky.count_on_eviction) == (3, "id-order", False)


def test_settings_are_unchanged_after_json():
    config = reference_quirks(fraction=0.5, interval=25)

    assert cattrs.structure(plain(config), CacheConfig) == config


def test_a_run_folder_with_old_policy_names_is_read(tmp_path):
    config = GnnConfig(buffer=CacheConfig(policy="belady"), compare=("lfu",))
    GnnStudy(folder=tmp_path, config=config, seed=0).write()
    path = tmp_path / "gnn.json"
    path.write_text(path.read_text().replace('"belady"', '"schedule"').replace('"lfu"', '"counts"'))

    assert GnnStudy.read(tmp_path).config == config
