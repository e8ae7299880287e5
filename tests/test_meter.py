from __future__ import annotations

import pytest

from quatrain import progress
from quatrain.files import read_json
from quatrain.progress import Meter


@pytest.fixture
def reported(tmp_path):
    return lambda: read_json(tmp_path / "progress" / "train.json")


def test_a_meter_reports_at_once_that_it_begins(tmp_path, reported):
    Meter(tmp_path, "train", total=10, done=4)

    state = reported()
    assert (state["task"], state["done"], state["first"], state["total"], state["note"]) == ("train", 4, 4, 10, "")
    assert state["began"] <= state["updated"]


def test_a_meter_writes_seldom_but_always_its_end(tmp_path, reported, monkeypatch):
    monkeypatch.setattr(progress, "PERIOD_S", 3600)
    meter = Meter(tmp_path, "train", total=3)

    meter.advance()
    assert reported()["done"] == 0
    meter.advance(2, note="loss 0.3")
    assert (reported()["done"], reported()["note"]) == (3, "loss 0.3")


def test_a_note_stays_until_the_next(tmp_path, reported, monkeypatch):
    monkeypatch.setattr(progress, "PERIOD_S", 0)
    meter = Meter(tmp_path, "train", total=3)

    meter.set(1, note="loss 0.3")
    meter.set(2)

    assert reported()["note"] == "loss 0.3"


@pytest.mark.parametrize(("total", "end"), [(None, 2), (5, 5)])
def test_finishing_brings_it_to_its_end_also_without_a_total(tmp_path, reported, total, end):
    meter = Meter(tmp_path, "train", total=total)
    meter.set(2)

    meter.finish()

    assert reported()["done"] == reported()["total"] == end
