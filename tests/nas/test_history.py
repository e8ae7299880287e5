from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_worlds import MINI, small_space

from quatrain.nas.history import busy_share, occupied, popular, search_curve


def line(event, key, images, score, **more):
    return {"event": event, "key": key, "metrics": {"miou_oracle": score, "images": images}, **more}


def event(second, state, task, **more):
    return {"time": f"2026-01-02T03:04:{second:06.3f}Z", "state": state, "task": task, **more}


def test_images_count_once_for_a_network_of_several_rungs():
    curve = search_curve([line("part", "a", 4, 0.5), line("part", "b", 4, 0.4), line("record", "a", 12, 0.6)], {})

    assert (curve.nets, curve.spent) == (2, 16)
    assert (curve.images, curve.best) == ([16], [0.6])


def test_the_best_so_far_never_falls_and_ignores_what_is_not_allowed():
    lines = [line("record", key, 4, score) for key, score in (("a", 0.5), ("big", 0.9), ("b", 0.4), ("c", 0.7))]

    assert search_curve(lines, {"big": False}).best == [0.5, 0.5, 0.5, 0.7]


def test_baselines_cost_nothing():
    assert search_curve([line("record", "a", 4, 0.5, proposed=False)], {}).spent == 0


def test_shares_of_a_block_add_up_to_one_and_impossible_widths_have_none():
    space = small_space(widths=2, blocks=2, removable=(1,))
    nets = [(space.largest(), 0.9), (space.smallest(), 0.8), *((space.largest(), 0.1),) * 8]

    rows = dict(popular(space, nets))

    assert set(rows) == {0, 320, 384}
    assert rows[0][0] is None
    for block in range(space.depth):
        assert sum(shares[block] or 0 for shares in rows.values()) == pytest.approx(1)
    assert rows[0][1] == 0.5


def test_the_good_ones_decide_what_is_popular():
    nets = [(MINI.smallest(), 0.9), *((MINI.largest(), 0.1),) * 4]

    assert dict(popular(MINI, nets))[96][0] == 1


def test_workers_are_busy_from_running_to_done():
    events = [
        event(0, "pending", "measure-1"),
        event(1, "running", "measure-1"),
        event(2, "running", "measure-2"),
        event(3, "done", "measure-1"),
        event(5, "done", "measure-2"),
        event(9, "running", "train-1"),
    ]

    moments, busy = occupied(events, "measure-")

    assert (moments, busy) == ([1, 2, 3, 5], [1, 2, 1, 0])
    assert busy_share(moments, busy, workers=2) == pytest.approx((1 + 2 + 2) / 8)


def test_a_task_that_died_with_its_driver_ends_where_the_next_one_begins():
    events = [event(1, "running", "measure-1"), event(4, "resumed", None), event(5, "running", "measure-1")]

    assert occupied(events, "measure-") == ([0, 3, 4], [1, 0, 1])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=8))
def test_workers_are_never_more_than_all_busy(spans):
    events = [
        one
        for number, (begin, length) in enumerate(spans)
        for one in (event(begin, "running", f"measure-{number}"), event(begin + length, "done", f"measure-{number}"))
    ]

    assert 0 <= busy_share(*occupied(events, "measure-"), workers=len(spans)) <= 1
