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
def test_without_look_ahead_all_times_add_up(steps):
    assert end(0, steps) == pytest.approx(sum(map(sum, steps)))


@given(work, st.integers(0, 4))
def test_a_pipeline_is_as_slow_as_its_slower_side_at_least_and_no_slower_than_a_shallower_one(steps, depth):
    prepare_s, train_s = map(sum, zip(*steps, strict=True))

    assert max(prepare_s, train_s) - 1e-9 <= end(depth + 1, steps) <= end(depth, steps) + 1e-9


def test_a_deeper_pipeline_hides_one_slow_batch():
    steps = [(1, 2), (1, 2), (1, 2), (4, 2), (1, 2)]

    assert end(1, steps) == 1 + 5 * 2 + 2
    assert end(2, steps) == 1 + 5 * 2


@given(st.lists(st.tuples(seconds, seconds, seconds), min_size=1, max_size=30), st.integers(0, 4))
def test_the_overhead_of_a_part_is_at_most_its_time_and_at_most_the_waits(steps, depth):
    overhead, pipeline = OverheadEstimate(depth), PrefetchPipeline(depth)
    for part_s, other_s, train_s in steps:
        overhead.step(part_s + other_s, part_s, train_s)
        pipeline.step(part_s + other_s, train_s)
    took_s = overhead.take_s()

    waited_s = pipeline.end - sum(train_s for _, _, train_s in steps)
    assert -1e-9 <= took_s <= min(sum(part_s for part_s, _, _ in steps), waited_s) + 1e-9
    assert overhead.take_s() == 0


def test_a_part_hidden_behind_training_has_no_overhead():
    overhead = OverheadEstimate(1)
    for _ in range(4):
        overhead.step(3, 1, 5)

    assert overhead.take_s() == 1  # that of the first step, which nothing hides
    overhead.step(7, 1, 5)
    assert overhead.take_s() == 1
