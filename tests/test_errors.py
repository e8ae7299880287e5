from __future__ import annotations

import pytest

from quatrain.errors import UsageError, unknown


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    error = unknown("model", "vit_bb", ["vit_l", "vit_b"])

    assert isinstance(error, UsageError)
    assert str(error) == "there is no model 'vit_bb': did you mean 'vit_b'? known: vit_b, vit_l"


def test_a_name_like_none_of_the_known_ones_gets_no_guess():
    assert str(unknown("site", "xyzzy", ("local", "slurm"))) == "there is no site 'xyzzy': known: local, slurm"


@pytest.mark.parametrize("known", [{"b": 1, "a": 2}, ("b", "a"), iter(["b", "a"])])
def test_the_known_names_may_come_in_any_container_and_are_reported_in_order(known):
    assert str(unknown("thing", "?", known)).endswith("known: a, b")
