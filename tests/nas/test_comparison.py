from __future__ import annotations

import pytest
from search_worlds import MINI, SAM, run, score, start

from quatrain.nas.comparison import banded, bands, lineup, of_size
from quatrain.search.constraints import Bounds
from quatrain.supernet.cost import encoder_parameters

BOUNDS = Bounds.parse(SAM, max_params="60%")


@pytest.fixture
def search(tmp_path):
    search = start(tmp_path / "j", budget=25)
    run(search)
    return search


def test_every_band_holds_random_networks_of_its_size_within_the_bounds(search):
    found = bands(MINI, BOUNDS, search, count=4, seed=0)

    assert encoder_parameters(SAM, search.best().subnet) in [band.params for band in found]
    for band in found:
        assert len(band.subnets) == 4
        for subnet in band.subnets:
            assert BOUNDS.admits(subnet)
            assert abs(encoder_parameters(SAM, subnet) / band.params - 1) <= 0.05


def test_a_band_tells_the_range_of_what_was_measured(search):
    found = bands(MINI, BOUNDS, search, count=3, seed=0)
    for subnet in found[0].subnets:
        if trial := search.baseline(subnet):
            search.record(trial, {"miou_oracle": score(subnet)})

    first = banded(found, search)[0]

    scores = [score(subnet) for subnet in found[0].subnets]
    assert (first["lowest"], first["highest"], first["nets"]) == (min(scores), max(scores), 3)
    assert first["lowest"] <= first["mean"] <= first["highest"]


def test_luck_can_be_left_out(search):
    assert bands(MINI, BOUNDS, search, count=0, seed=0) == []
    assert of_size([], BOUNDS, MINI.smallest()) == ()


def test_rows_are_those_that_there_are_weights_for(tmp_path):
    for weights in ("start", "supernet"):
        (tmp_path / f"{weights}.pt").touch()

    names = [row.name for row in lineup(MINI, BOUNDS, MINI.smallest(), [MINI.largest()], tmp_path)]

    assert names == ["pretrained", "largest", "smallest", "best", "random nets of the best one's size"]
    (tmp_path / "tuned.pt").touch()
    assert "best, fine-tuned" in [row.name for row in lineup(MINI, BOUNDS, MINI.smallest(), [], tmp_path)]
