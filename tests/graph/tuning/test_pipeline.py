import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.graph.tuning.pipeline import OverheadEstimate, PrefetchPipeline

seconds = st.floats(0, 10)
work = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30)


def end(depth, steps):
    pipeline = PrefetchPipeline(depth)
    for prepare_s, train_s in steps:
        pipeline.step(prepare_s, train_s)
    return pipeline.end


@given(work)
def test_without_look_ahead_all_is_in_turn(steps):
    assert end(0, steps) == pytest.approx(sum(map(sum, steps)))


@given(work, st.integers(0, 4))
def test_a_pipeline_is_as_slow_as_its_slower_side_at_least_and_no_slower_than_a_shallower_one(steps, depth):
    prepare_s, train_s = map(sum, zip(*steps, strict=True))

    assert max(prepare_s, train_s) - 1e-9 <= end(depth + 1, steps) <= end(depth, steps) + 1e-9


def test_a_slow_batch_is_made_up_for_while_others_wait_ready():
    steps = [(1, 2), (1, 2), (1, 2), (4, 2), (1, 2)]

    assert end(1, steps) == 1 + 5 * 2 + 2
    assert end(2, steps) == 1 + 5 * 2


@given(st.lists(st.tuples(seconds, seconds, seconds), min_size=1, max_size=30), st.integers(0, 4))
def test_a_part_costs_no_more_than_it_takes_and_no_more_than_is_waited_for(steps, depth):
    spared, pipeline = OverheadEstimate(depth), PrefetchPipeline(depth)
    for part_s, other_s, train_s in steps:
        spared.step(part_s + other_s, part_s, train_s)
        pipeline.step(part_s + other_s, train_s)
    took = spared.take()

    waited_s = pipeline.end - sum(train_s for _, _, train_s in steps)
    assert -1e-9 <= took <= min(sum(part_s for part_s, _, _ in steps), waited_s) + 1e-9
    assert spared.take() == 0


def test_what_is_hidden_behind_training_costs_nothing():
    spared = OverheadEstimate(1)
    for _ in range(4):
        spared.step(3, 1, 5)

    assert spared.take() == 1  # the first step's, which nothing hides
    spared.step(7, 1, 5)
    assert spared.take() == 1
