from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from test_replay import traced

from quatrain.errors import UsageError
from quatrain.graph.config import CacheConfig
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.tuning.replay import replay
from quatrain.graph.tuning.trace import TraceWriter
from quatrain.graph.tuning.tune import StepModel, TuneConfig, table, tune, write_ranked

HALO = HaloTable(range(0, 20, 2), range(10))
STEPS = [np.array([0, 2, 4, 41, 25]), np.array([0, 2, 6]), np.array([0, 8, 41]), np.array([0, 4, 30])]
GIVEN = TuneConfig(mbit_s=1, latency_s=0, sample_s=0.0, train_s=0.0, fractions=(0.5,))

BELADY = CacheConfig(policy="belady", fraction=0.5, decay=0.95, interval=16, window=8)


def no_time():
    return 0.0


def record(path, times=True):
    trace = traced(HALO, STEPS)
    with TraceWriter(path, trace.setup) as writer:
        for step, local in zip(trace.steps(), trace.local.tolist(), strict=True):
            writer.step(step, local)
            writer.next_epoch()
        if times:
            writer.times(sample_s=0.1, train_s=0.2)
    return path


def test_all_policies_are_ranked_by_time(tmp_path):
    calls = []
    ranked = tune(record(tmp_path / "t.h5"), GIVEN, advance=lambda done, total: calls.append((done, total)))

    order = [(float(f"{one.epoch_s:.2g}"), one.remote_bytes, one.memory_bytes) for one in ranked]
    assert order == sorted(order)
    assert {one.buffer.policy for one in ranked} == set(GIVEN.policies)
    assert calls == [(done, len(ranked)) for done in range(1, len(ranked) + 1)]


def test_a_ranking_has_the_counts_of_the_replay(tmp_path):
    ranked = tune(record(tmp_path / "t.h5"), GIVEN, clock=no_time)
    wanted = replace(BELADY, carry=False, candidates="halo")
    one = next(one for one in ranked if one.buffer == wanted)
    done = replay(traced(HALO, STEPS), one.buffer)

    assert one.halo_hit_rate == done.halo_hit_rate
    assert one.remote_bytes == done.remote_rows.sum() * 2 * 4 // len(STEPS)
    assert (one.buffer_rows, one.fill_bytes) == (5, 5 * 2 * 4)


def test_a_policy_that_looks_ahead_is_fastest_on_a_slow_link(tmp_path):
    ranked = tune(record(tmp_path / "t.h5"), GIVEN, clock=no_time)

    assert ranked[0].buffer.policy in ("belady", "presample")
    assert ranked[0].speedup > 1
    assert min(one.speedup for one in ranked) == pytest.approx(1)


def test_carry_costs_memory_only_without_look_ahead(tmp_path):
    path = record(tmp_path / "t.h5")
    memory = {}
    for depth in (0, 1):
        for carry in (False, True):
            config = TuneConfig(
                policies=("belady",),
                fractions=(0.5,),
                candidates=("halo",),
                windows=(8,),
                carry=(carry,),
                depth=depth,
            )
            memory[depth, carry] = tune(path, config)[0].memory_bytes

    assert memory[1, True] == memory[1, False] == memory[0, False]
    assert memory[0, True] == memory[0, False] + 5 * 2 * 4


def test_equal_times_are_ranked_by_bytes(tmp_path):
    config = TuneConfig(train_s=100.0, sample_s=0.1)
    ranked = tune(record(tmp_path / "t.h5"), config)  # with the real clock, whose noise must not change the order

    assert len({f"{one.epoch_s:.2g}" for one in ranked}) == 1
    assert [one.remote_bytes for one in ranked] == sorted(one.remote_bytes for one in ranked)
    assert ranked[-1].remote_bytes > ranked[0].remote_bytes


def test_without_look_ahead_the_parts_of_a_step_add_up():
    config = TuneConfig(mbit_s=8, latency_s=0.5, sample_s=1.0, train_s=2.0, copy_gb_s=1e-9, depth=0, overlap=False)
    trace = traced(HALO, [np.array([0, 25]), np.array([25])])
    epoch_s = StepModel.of(trace, config).epoch_s(replay(trace, CacheConfig(policy="none"), no_time))

    row, pull = 2 * 4, 0.5 + 2 * 4 / 1e6
    assert epoch_s == pytest.approx((1.0 + pull + 2 * row + 2.0) + (1.0 + 1 * row + 2.0))


def test_with_overlap_a_step_takes_the_longer_of_sampling_and_pull():
    trace = traced(HALO, [np.array([0])] * 10)
    done = replay(trace, CacheConfig(policy="none"), no_time)
    for latency_s, expected in ((1.0, 10 * 2 + 1), (5.0, 10 * 5 + 1)):
        config = TuneConfig(mbit_s=1e9, latency_s=latency_s, sample_s=2.0, train_s=1.0, copy_gb_s=1e9, depth=1)
        assert StepModel.of(trace, config).epoch_s(done) == pytest.approx(expected)


def test_look_ahead_hides_the_shorter_of_preparing_and_training():
    trace = traced(HALO, [np.array([25])] * 10)
    for sample_s, train_s, expected in ((1.0, 3.0, 1 + 10 * 3), (3.0, 1.0, 10 * 3 + 1)):
        config = TuneConfig(sample_s=sample_s, train_s=train_s, copy_gb_s=1e9, depth=1)
        done = replay(trace, CacheConfig(policy="none"), no_time)
        assert StepModel.of(trace, config).epoch_s(done) == pytest.approx(expected)


def test_deeper_look_ahead_is_never_slower():
    trace = traced(HALO, STEPS * 3)
    done = replay(trace, CacheConfig(policy="none"), no_time)
    times = [
        StepModel.of(trace, TuneConfig(sample_s=0.01, train_s=0.02, mbit_s=0.01, depth=depth)).epoch_s(done)
        for depth in (0, 1, 2, 5)
    ]
    assert times == sorted(times, reverse=True)


def test_step_times_come_from_the_trace_unless_given(tmp_path):
    with pytest.raises(UsageError, match="give sample_s and train_s"):
        tune(record(tmp_path / "bare.h5", times=False))
    config = TuneConfig(policies=("none",), latency_s=0, mbit_s=1e9, copy_gb_s=1e9)
    recorded = tune(record(tmp_path / "t.h5"), config, clock=no_time)

    assert recorded[0].epoch_s == pytest.approx((0.1 + 4 * 0.2) / 4, rel=1e-3)


def test_a_policy_varies_only_in_the_settings_that_it_reads():
    buffers = list(
        TuneConfig(fractions=(0.1, 0.5), decays=(0.9, 0.99), intervals=(8, 16), windows=(4, 8)).configurations()
    )
    count = {name: sum(buffer.policy == name for buffer in buffers) for name in TuneConfig().policies}

    assert count == {"none": 1, "static-degree": 2, "presample": 8, "paper": 16, "lfu": 8, "belady": 16}
    assert len(set(buffers)) == len(buffers)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"fractions": ()}, "fractions is empty"),
        ({"fractions": (1.5,)}, "fraction is 1.5"),
        ({"mbit_s": 0}, "mbit_s is 0; it must be positive"),
        ({"latency_s": -1}, "latency_s is -1"),
        ({"depth": -1}, "depth is -1"),
    ],
)
def test_invalid_settings_are_refused(wrong, problem):
    with pytest.raises(ValueError, match=problem):
        TuneConfig(**wrong)


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        TuneConfig(policies=("papers",))


def test_the_table_has_one_line_per_configuration_and_empty_cells_for_unused_settings(tmp_path):
    ranked = tune(record(tmp_path / "t.h5"), TuneConfig(policies=("none", "paper"), fractions=(0.25,), train_s=1.0))
    head, *lines = table(ranked).splitlines()

    assert head.split()[:4] == ["policy", "f", "gamma", "delta"]
    assert len(lines) == len(ranked)
    none = next(line for line in lines if "none" in line)
    assert none.split()[1] == "0.0"
    assert len({len(line) for line in [head, *lines]}) == 1


def test_a_ranking_is_written_as_json_and_csv(tmp_path):
    ranked = tune(record(tmp_path / "t.h5"), GIVEN)
    write_ranked(ranked, tmp_path / "r.json")
    write_ranked(ranked, tmp_path / "r.csv")

    assert json.loads((tmp_path / "r.json").read_text())[0]["buffer"]["policy"] == ranked[0].buffer.policy
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["policy"] for row in rows] == [one.buffer.policy for one in ranked]
    with pytest.raises(UsageError, match=r"not a \.json or \.csv file"):
        write_ranked(ranked, tmp_path / "r.txt")
