from __future__ import annotations

import pytest

from quatrain.report.text import UNKNOWN, count, duration, figure, millions, percent


@pytest.mark.parametrize(("value", "text"), [(816_000, "0.82"), (12_500_000, "12.5"), (89_670_912, "89.7")])
def test_parameters_are_reported_in_millions(value, text):
    assert millions(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.26, "0.260"), (3.125, "3.12"), (31.24, "31.2"), (486.0, "486"), (1493.0, "1,493")],
)
def test_figures_keep_about_three_digits(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.6, "9 s"), (59.6, "1 min 0 s"), (245, "4 min 5 s"), (11_520, "3 h 12 min")]
)
def test_times_are_reported_in_the_units_that_matter(seconds, text):
    assert duration(seconds) == text


def test_shares_become_percent_and_counts_get_separators():
    assert percent(0.8534) == "85.3"
    assert count(12800) == "12,800"


@pytest.mark.parametrize("write", [millions, figure, percent, count, duration])
def test_what_is_unknown_is_a_dash(write):
    assert write(None) == UNKNOWN
