from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.search.halving import Halving, rungs

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def on_first_rung(values: list[float], eta: int = 3) -> Halving:
    halving = Halving((4, 12, 36), eta)
    for number, value in enumerate(values):
        halving.add(f"net {number:02d}", 4, value)
    return halving


def everyone_who_goes_on(halving: Halving, *, last_call: bool) -> list[str]:
    keys = []
    while (found := halving.promotion(last_call=last_call)) is not None:
        key, images, more = found
        assert (images, more) == (4, 12)
        halving.promote(key, images)
        keys.append(key)
    return keys


@pytest.mark.parametrize(
    ("images", "eta", "least", "expected"),
    [(48, 3, 8, (16, 48)), (96, 3, 8, (10, 32, 96)), (96, 2, 30, (48, 96)), (7, 3, 8, (7,)), (48, 1, 1, (48,))],
)
def test_rungs_end_with_all_images_and_begin_with_enough(images, eta, least, expected):
    assert rungs(images, eta=eta, least=least) == expected


@given(st.integers(1, 5000), st.integers(1, 5), st.integers(1, 50))
def test_rungs_ascend_to_all_images(images, eta, least):
    found = rungs(images, eta=eta, least=least)

    assert list(found) == sorted(set(found))
    assert found[-1] == images
    assert all(count >= least for count in found[:-1])


@given(scores, st.integers(1, 4))
def test_the_best_share_of_a_rung_goes_on_rounded_down(values, eta):
    gone = everyone_who_goes_on(on_first_rung(values, eta), last_call=False)

    assert len(gone) == len(values) // eta
    worst_gone = min((values[int(key[4:])] for key in gone), default=1)
    assert sum(value > worst_gone for value in values) <= len(gone)


@given(scores)
def test_at_the_last_call_the_best_network_always_goes_on(values):
    gone = everyone_who_goes_on(on_first_rung(values), last_call=True)

    assert len(gone) == -(-len(values) // 3)
    assert max(values) in [values[int(key[4:])] for key in gone]


def test_higher_rungs_come_first():
    halving = on_first_rung([0.1 * i for i in range(6)])
    for key in everyone_who_goes_on(halving, last_call=False):
        halving.add(key, 12, 0.5)
    halving.add("net 00", 12, 0.9)

    assert halving.promotion(last_call=False) == ("net 00", 12, 36)


def test_a_later_better_network_overtakes_without_anyone_waiting():
    halving = on_first_rung([0.5, 0.1, 0.2])
    assert everyone_who_goes_on(halving, last_call=False) == ["net 00"]

    for number, value in enumerate([0.9, 0.8, 0.3]):
        halving.add(f"late {number}", 4, value)

    assert everyone_who_goes_on(halving, last_call=False) == ["late 0", "late 1"]


def test_without_rungs_nobody_goes_on():
    assert Halving((), 3).promotion(last_call=True) is None
    assert Halving((36,), 3).promotion(last_call=True) is None


@pytest.mark.parametrize("wrong", [(4, 4), (12, 4), (0, 4)])
def test_rungs_that_do_not_ascend_are_refused(wrong):
    with pytest.raises(ValueError, match="give ascending numbers of images"):
        Halving(wrong, 3)


def test_a_share_below_one_is_refused():
    with pytest.raises(ValueError, match="eta is 0"):
        Halving((4, 12), 0)
