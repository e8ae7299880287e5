from __future__ import annotations

from dataclasses import replace

import pytest
from search_worlds import MINI, SAM, run, score, start
from supernet_world import SPACE, TINY

from quatrain.nas.comparison import (
    RANDOM,
    RESTRICTED,
    NetRow,
    autotune_rows,
    bucket_of,
    depth_only,
    known_scores,
    nas_rows,
    outcome,
    random_baseline,
    size_buckets,
    table,
    width_only,
)
from quatrain.nas.config import NasConfig, SearchConfig
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Space, Subnet

BOUNDS = Bounds.parse(SAM, max_params="60%")
FREE = Bounds(sam=TINY)
TIGHT = Bounds.parse(TINY, max_params="70%")
CONFIG = NasConfig(search=SearchConfig(random_in_bucket=3))


def figures(subnet):
    """Figures that grow with the network, each its own."""
    share = sum(subnet.widths) / sum(SPACE.full)
    return {"miou_oracle": 0.5 + share / 4, "miou_chosen": 0.4 + share / 4, "images": 3.0, "objects": 7.0}


def searched(tmp_path, bounds=TIGHT, budget=20, baselines=()):
    search = Search(space=SPACE, bounds=bounds, journal=tmp_path / "s.jsonl", seed=0, budget=budget, engine="random")
    while trial := search.propose():
        search.record(trial, figures(trial.subnet))
    for subnet in baselines:
        if search.known(subnet) is None:
            search.record(Trial(subnet=subnet), figures(subnet))
    return search


@pytest.fixture
def search(tmp_path):
    return searched(tmp_path, baselines=[*depth_only(SPACE, TIGHT, 0), *width_only(SPACE, TIGHT, 0)])


@pytest.fixture
def planned(search):
    return nas_rows(CONFIG, TINY, SPACE, search, TIGHT, seed=0)


def named(planned, name):
    (row,) = (row for row in planned if row.name == name)
    return row


def measured(planned):
    return {key: figures(row.subnet) for row in planned for key in row.measure_keys}


def test_the_nets_that_every_study_reports_come_first(planned, search):
    assert [row.name for row in planned[:5]] == ["pretrained", "fine-tuned", "largest", "smallest", "best"]
    assert [row.weights for row in planned[:5]] == ["start", "finetune", "supernet", "supernet", "supernet"]
    assert [row.subnet for row in planned[:4]] == [
        full_subnet(TINY),
        full_subnet(TINY),
        full_subnet(TINY),
        SPACE.smallest(),
    ]
    assert planned[4].subnet == search.best().subnet


def test_the_best_net_keeps_the_bounds_that_larger_ones_break(planned, search):
    best = named(planned, "best").subnet

    assert TIGHT.admits(best)
    assert all(search.known(best).score >= found.score for found in search.evaluations if TIGHT.admits(found.subnet))


def test_random_nets_have_the_best_ones_size(planned):
    wanted = encoder_parameters(TINY, named(planned, "best").subnet)
    drawn = [row.subnet for row in planned if row.name == RANDOM]

    assert 1 <= len(drawn) <= 3
    assert len(set(drawn)) == len(drawn)
    assert all(abs(encoder_parameters(TINY, net) / wanted - 1) <= 0.05 for net in drawn)
    assert all(TIGHT.admits(net) for net in drawn)


def test_every_range_of_sizes_has_a_row_for_its_top_net(planned, search):
    full = encoder_parameters(TINY, full_subnet(TINY))
    tops = [row for row in planned if row.name.startswith("top net of ")]

    assert tops
    for row in tops:
        low, high = map(int, row.name.removeprefix("top net of ").removesuffix(" % size").split("-"))
        rivals = [found for found in search.evaluations if low <= 100 * found.params // full < high]
        assert search.known(row.subnet).score == max(found.score for found in rivals)


def test_depth_only_and_width_only_nets_have_a_row_each(planned):
    (depth,) = (row for row in planned if row.name.startswith("depth only"))
    (width,) = (row for row in planned if row.name.startswith("width only"))

    assert set(depth.subnet.widths) == {0, 96}
    assert 0 not in width.subnet.widths
    assert TIGHT.admits(depth.subnet)
    assert TIGHT.admits(width.subnet)


def test_restricted_spaces_that_were_not_measured_have_no_row(tmp_path):
    search = searched(tmp_path, budget=1)
    mixed = next(found.subnet for found in search.evaluations)

    names = [row.name for row in nas_rows(CONFIG, TINY, SPACE, search, TIGHT, seed=0)]

    expected = {"depth only"} if set(mixed.widths) <= {0, 96} else set()
    expected |= {"width only"} if 0 not in mixed.widths else set()
    assert {name.split(",")[0] for name in names if "only" in name} <= expected


def test_orders_of_channels_are_compared_before_training_or_after_with_ablations(search):
    def orders(config):
        found = nas_rows(config, TINY, SPACE, search, TIGHT, seed=0)
        return {row.name: (row.weights, row.note) for row in found if "channels" in row.name}

    assert orders(CONFIG) == {
        "found widths, channels sorted": ("start", "before training"),
        "found widths, channels as they are": ("start-none", "before training"),
        "found widths, channels at random": ("start-random", "before training"),
    }
    assert {weights for weights, _ in orders(replace(CONFIG, ablations=True)).values()} == {
        "supernet",
        "supernet-none",
        "supernet-random",
    }


def test_a_search_that_found_nothing_has_no_table(tmp_path):
    with pytest.raises(ValueError, match="no network was evaluated; there is no best network"):
        nas_rows(CONFIG, TINY, SPACE, searched(tmp_path, budget=0), TIGHT, seed=0)


def test_depth_only_nets_keep_their_widths():
    nets = depth_only(SPACE, FREE, seed=0)

    assert {net.key for net in nets} == {"96-96-96-96", "96-0-96-96", "96-96-0-96", "96-0-0-96"}
    assert all(TIGHT.admits(net) for net in depth_only(SPACE, TIGHT, seed=0))


def test_some_of_many_depth_only_nets_are_drawn():
    many = Space(full=(96,) * 4, choices=((96,),) * 4, removable=(0, 1, 2), drop_probability=(0.5,) * 3)
    more = Space(full=(96,) * 6, choices=((96,),) * 6, removable=(1, 2, 3, 4), drop_probability=(0.5,) * 4)
    deep = Bounds(sam=replace(TINY, depth=6))

    assert len(depth_only(many, FREE, seed=0)) == RESTRICTED
    assert len(depth_only(more, deep, seed=0)) == RESTRICTED
    assert depth_only(more, deep, seed=0) == depth_only(more, deep, seed=0)


def test_width_only_nets_keep_every_block_and_begin_with_the_even_ones():
    nets = width_only(SPACE, FREE, seed=0)

    assert [net.key for net in nets[:3]] == ["96-96-96-96", "48-48-48-48", "24-24-24-24"]
    assert len(nets) == len(set(nets)) == RESTRICTED
    assert all(TIGHT.admits(net) for net in width_only(SPACE, TIGHT, seed=0))


def test_what_the_search_measured_of_the_supernet_is_not_measured_again(planned, search):
    known = known_scores(planned, search)

    assert named(planned, "best").measure_key("validation") in known
    for (weights, key, part), figures in known.items():
        assert (weights, part) == ("supernet", "validation")
        assert figures == search.known(Subnet.parse(key)).metrics


def test_a_line_has_size_latency_and_scores_of_its_net():
    net = Subnet(widths=(48, 0, 96, 24))
    row = NetRow(name="best", weights="supernet", subnet=net, note="found")

    found = {row.measure_key("test"): figures(net), row.measure_key("validation"): {"miou_oracle": 0.25}}

    (line,) = table(TINY, [row], found, [12.5])

    assert line == {
        "name": "best",
        "params": encoder_parameters(TINY, net),
        "gmacs": pytest.approx(encoder_macs(TINY, net) / 1e9),
        "latency_ms": 12.5,
        "miou_oracle": pytest.approx(figures(net)["miou_oracle"]),
        "miou_chosen": pytest.approx(figures(net)["miou_chosen"]),
        "miou_validation": 0.25,
        "images": 3,
        "objects": 7,
        "note": "found",
    }


def test_rows_of_one_name_become_their_mean_with_half_their_range():
    nets = [Subnet(widths=(width,) * 4) for width in (24, 48, 96)]
    planned = [NetRow(name=RANDOM, weights="supernet", subnet=net, note="random") for net in nets]
    values = zip(planned, (0.2, 0.3, 0.7), strict=True)
    found = {key: {**figures(nets[0]), "miou_oracle": value} for row, value in values for key in row.measure_keys}

    (line,) = table(TINY, planned, found, [1.0, 2.0, 6.0])

    assert line["miou_oracle"] == pytest.approx(0.4)
    assert line["spread"] == pytest.approx(0.25)
    assert line["latency_ms"] == pytest.approx(3)
    assert line["params"] == round(sum(encoder_parameters(TINY, net) for net in nets) / 3)
    assert line["note"] == "mean of 3; random"


def test_every_name_has_one_line_in_the_order_of_the_rows(planned):
    lines = table(TINY, planned, measured(planned), [1.0] * len(planned))

    assert [line["name"] for line in lines] == list(dict.fromkeys(row.name for row in planned))


def test_the_outcome_has_baseline_best_and_front(planned, search):
    lines = table(TINY, planned, measured(planned), [1.0] * len(planned))
    best = named(planned, "best").subnet

    found = outcome(lines, search, best, "checkpoints/best.pth")

    full = encoder_parameters(TINY, full_subnet(TINY))
    assert found["baseline"]["params"] == found["finetuned"]["params"] == full
    assert found["baseline"]["miou"] == pytest.approx(figures(full_subnet(TINY))["miou_oracle"])
    assert found["best"]["subnet"] == best.key
    assert found["best"]["checkpoint"] == "checkpoints/best.pth"
    assert found["best"]["reduction"] == pytest.approx(1 - encoder_parameters(TINY, best) / full)
    assert found["evaluations"] == len(search.evaluations)
    sizes = [net["params"] for net in found["pareto"]]
    assert sizes == sorted(sizes)
    assert all(net.keys() >= {"subnet", "params", "gmacs", "miou_oracle", "miou_chosen"} for net in found["pareto"])


@pytest.fixture
def mini_search(tmp_path):
    search = start(tmp_path / "j", budget=25)
    run(search)
    return search


def test_every_size_bucket_holds_random_networks_of_its_size_within_the_bounds(mini_search):
    found = size_buckets(MINI, BOUNDS, mini_search, count=4, seed=0)

    assert encoder_parameters(SAM, mini_search.best().subnet) in [bucket.params for bucket in found]
    for bucket in found:
        assert len(bucket.subnets) == 4
        for subnet in bucket.subnets:
            assert BOUNDS.admits(subnet)
            assert abs(encoder_parameters(SAM, subnet) / bucket.params - 1) <= 0.05


def test_the_random_baseline_has_the_range_of_the_measured_scores(mini_search):
    found = size_buckets(MINI, BOUNDS, mini_search, count=3, seed=0)
    for subnet in found[0].subnets:
        if trial := mini_search.baseline(subnet):
            mini_search.record(trial, {"miou_oracle": score(subnet)})

    first = random_baseline(found, mini_search)[0]

    scores = [score(subnet) for subnet in found[0].subnets]
    assert (first["lowest"], first["highest"], first["nets"]) == (min(scores), max(scores), 3)
    assert first["lowest"] <= first["mean"] <= first["highest"]


def test_the_random_baseline_can_be_left_out(mini_search):
    assert size_buckets(MINI, BOUNDS, mini_search, count=0, seed=0) == []
    assert bucket_of([], BOUNDS, MINI.smallest()) == ()


def test_autotune_rows_without_weights_are_left_out(tmp_path):
    for weights in ("start", "supernet"):
        (tmp_path / f"{weights}.pt").touch()

    names = [row.name for row in autotune_rows(MINI, BOUNDS, MINI.smallest(), [MINI.largest()], tmp_path)]

    assert names == ["pretrained", "largest", "smallest", "best", "random nets of the best one's size"]
    (tmp_path / "tuned.pt").touch()
    assert "best, fine-tuned" in [row.name for row in autotune_rows(MINI, BOUNDS, MINI.smallest(), [], tmp_path)]
