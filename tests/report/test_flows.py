import re

import numpy as np
import pytest

from quatrain.report.charts import StackedBar
from quatrain.report.flows import flows, short


def drawn(amount):
    sides = [StackedBar(label=f"part{index}", parts=(3, 4)) for index in range(len(amount))]
    return flows(amount, sides, names=("own", "other"), labels=("from", "to", "things"))


def test_few_parts_are_drawn_with_their_numbers():
    svg = drawn([[0, 1234, 5], [70, 0, 0], [9, 8, 0]])

    assert all(f">{text}<" in svg for text in ("1.2k", "5", "70", "9", "8", "part2", "from", "to", "things"))


@pytest.mark.parametrize("count", [1, 2, 13, 64])
def test_any_number_of_parts_is_drawn_in_a_picture_of_moderate_size(count):
    svg = drawn(np.random.default_rng(0).integers(0, 10**6, (count, count)))

    assert len(svg) < 600_000
    assert svg.startswith("<svg")


def test_of_many_parts_only_some_are_named():
    assert len(re.findall(r">part\d+<", drawn(np.ones((64, 64))))) == 2 * 32


def test_parts_between_which_nothing_goes_are_drawn_too():
    assert "part1" in drawn(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (1234, "1.2k"), (34_000_000, "34M"), (2.5e9, "2.5G")]
)
def test_counts_are_reported_in_few_characters(value, text):
    assert short(value) == text
