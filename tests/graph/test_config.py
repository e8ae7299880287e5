import subprocess
import sys
from dataclasses import replace

import pytest

from quatrain.errors import UsageError
from quatrain.graph.config import (
    POLICIES,
    PRESETS,
    CacheConfig,
    ClusterConfig,
    GnnConfig,
    SyntheticConfig,
    TrainConfig,
    mini,
    paper,
)
from quatrain.graph.study import GnnStudy


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_way_through_a_run_folder(name, tmp_path):
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
        (lambda: GnnConfig(cluster=ClusterConfig(share_buffer=True), buffer=CacheConfig(policy="schedule")), "counts"),
    ],
)
def test_a_bad_value_is_refused_with_the_value_and_the_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_policy_to_compare_with_must_be_known():
    with pytest.raises(UsageError, match="did you mean 'counts'"):
        GnnConfig(compare=("count",))


def test_paths_are_made_absolute_where_the_driver_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert GnnConfig(data="ogbn_arxiv").data == str(tmp_path / "ogbn_arxiv")


def test_a_study_of_another_version_is_refused(tmp_path):
    GnnStudy(folder=tmp_path, config=GnnConfig(), seed=0).write()
    path = tmp_path / "gnn.json"
    path.write_text(path.read_text().replace('"hidden"', '"hiden"'))

    with pytest.raises(UsageError, match=r"no gnn\.json of this version"):
        GnnStudy.read(tmp_path)


def test_settings_need_neither_torch_nor_dgl():
    code = "import sys; import quatrain.graph.config; assert not {'torch', 'dgl'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_replaced_buffer_is_checked_again():
    with pytest.raises(ValueError, match="fraction"):
        replace(GnnConfig().buffer, fraction=1.5)


def test_another_policy_to_compare_with_leaves_out_what_it_does_not_know():
    carries = GnnConfig(buffer=CacheConfig(policy="schedule", carry=True, candidates="remote"), compare=("none",))

    assert carries.with_policy("schedule").buffer == carries.buffer
    assert not carries.with_policy("counts").buffer.carries
    assert carries.with_policy("counts").buffer.among == "remote"
    assert carries.with_policy("static-degree").buffer.among == "halo"


@pytest.mark.parametrize("name", ["mini", "default"])
def test_without_flags_the_policy_is_the_best_lossless_one(name):
    buffer = PRESETS[name]().buffer

    assert (buffer.policy, buffer.among, buffer.carries, buffer.known_steps) == ("schedule", "remote", True, 8)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_preset_takes_any_policy_as_its_only_change(policy):
    changed = replace(mini(), buffer=replace(mini().buffer, policy=policy))

    assert changed.buffer.carries == (policy == "schedule")
