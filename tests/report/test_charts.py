from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.report.charts import (
    Bar,
    Curve,
    Distribution,
    LabelledPoint,
    bars,
    block_widths,
    curves,
    histogram,
    pareto_front,
    running_mean,
    spread_labels,
)


def texts(svg: str) -> list[str]:
    found = [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    return ["".join(element.itertext()).strip() for element in found]


def drawn_front(**changes: object) -> str:
    known: dict[str, object] = {
        "points": [(1.0, 70.0), (2.0, 80.0)],
        "others": [(1.5, 60.0)],
        "best": [(1.0, 70.0), (2.0, 80.0)],
        "labelled": [
            LabelledPoint(x=2.5, y=79.0, label="pretrained"),
            LabelledPoint(x=2.0, y=80.0, label="best", strong=True),
        ],
        "limit": 2.2,
        "x_label": "size",
        "y_label": "quality",
    }
    return pareto_front(**(known | changes))


CHARTS = {
    "front": drawn_front,
    "curves": lambda: curves([Curve(label="loss", x=range(50), y=range(50))], x_label="step", y_label="loss"),
    "bars": lambda: bars(
        [Bar(height=3, highlighted=True), Bar(height=-1, starred=True)],
        y_label="y",
        highlighted="a",
        plain="b",
        starred="c",
    ),
    "architecture": lambda: block_widths([96, 0], [384, 384], starred=[True, False], meaning="global"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_well_formed_scalable_and_follows_the_pages_colours(name):
    svg = CHARTS[name]()
    root = ElementTree.fromstring(svg)

    assert root.get("viewBox")
    assert root.get("width") is None
    assert "var(--muted)" in svg
    assert not re.search(r"(?:href|src)=\"(?!#)", svg)
    colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert colours <= {"#000000", "#ffffff"}, "fixed colours do not follow a dark theme"


@pytest.mark.parametrize("name", CHARTS)
def test_equal_input_draws_equal_text(name):
    assert CHARTS[name]() == CHARTS[name]()


def test_two_charts_on_a_page_share_no_reference():
    used = [set(re.findall(r"(?:url\(|href=\")(#[^\")]+)", draw())) for draw in CHARTS.values()]

    assert sum(map(len, used)) == len(set().union(*used)) > 0


def test_marks_and_the_limit_are_labelled():
    labels = texts(drawn_front())

    assert {"pretrained", "best", "limit", "size", "quality"} <= set(labels)
    assert "limit" not in texts(drawn_front(limit=None))


def test_a_front_without_baselines_or_proposals_can_be_drawn():
    assert "quality" in texts(drawn_front(labelled=[], points=[], best=[]))


def test_the_names_of_curves_stand_above_the_drawing():
    lines = [Curve(label=f"net {number}", x=range(4), y=range(number, number + 4)) for number in range(6)]
    svg = curves(lines, x_label="step", y_label="loss")
    named = [float(y) for y in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>net \d</text>', svg)]
    frame = svg.partition('id="patch_2"')[2].partition("</g>")[0]
    drawn = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", frame)]

    assert len(named) == 6
    assert max(named) < min(drawn)


def test_a_dropped_block_is_named_and_the_others_report_their_width():
    labels = texts(CHARTS["architecture"]())

    assert "dropped" in labels
    assert "96" in labels


@given(st.lists(st.floats(0, 100), max_size=8).map(sorted), st.floats(0.1, 10))
def test_spread_labels_never_touch_and_stay_in_order(values, gap):
    placed = spread_labels(values, gap, 0, 100)

    assert all(later - earlier >= gap - 1e-9 for earlier, later in itertools.pairwise(placed))
    assert len(placed) == len(values)
    if placed:
        assert placed[0] >= -1e-9
        assert placed[-1] <= 100 + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_a_running_mean_stays_within_the_values_range(values):
    means = running_mean(values)

    assert len(means) == len(values)
    assert min(values) - 1e-6 <= min(means) <= max(means) <= max(values) + 1e-6


def test_a_running_mean_of_a_constant_is_the_constant():
    assert running_mean([2.0] * 100) == pytest.approx([2.0] * 100)


def test_a_histogram_counts_every_group_and_stands_for_itself():
    groups = [
        Distribution(label="material 1", values=[3.0, 30.0, 300.0]),
        Distribution(label="material 2", values=[5.0]),
    ]

    svg = histogram(groups, x_label="diameter, nm", y_label="regions")

    assert "material 1 (3)" in svg
    assert "material 2 (1)" in svg
    assert "diameter, nm" in svg
    assert svg == histogram(groups, x_label="diameter, nm", y_label="regions")


def test_a_histogram_of_one_size_is_drawn():
    assert histogram([Distribution(label="a", values=[7.0, 7.0])], x_label="x", y_label="y").startswith("<svg")
