from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supernet_world import SPACE, TINY, elastic

from quatrain.errors import UsageError
from quatrain.supernet import latency
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.latency import Timing, calibrate, measure, milliseconds, predict
from quatrain.supernet.space import Subnet

TABLE = {
    "format": latency.FORMAT,
    "embed": 1.0,
    "readout": 2.0,
    "kinds": ["window", "global", "window", "global"],
    "blocks": {"window": {"24": 10.0, "96": 40.0}, "global": {"24": 100.0, "96": 400.0}},
}
ONCE = Timing(warmup=0, repeats=1)


@pytest.fixture(scope="module")
def table():
    return calibrate(elastic().image_encoder, SPACE, ONCE, check=[SPACE.largest(), SPACE.smallest()])


@pytest.mark.parametrize(
    ("key", "ms"),
    [("24-24-24-24", 223.0), ("96-0-24-24", 153.0), ("0-0-0-96", 403.0), ("60-0-0-24", 128.0), ("24-0-0-60", 263.0)],
)
def test_a_prediction_is_the_sum_of_the_parts(key, ms):
    assert predict(TABLE, Subnet.parse(key)) == pytest.approx(ms)


networks = st.lists(st.sampled_from([0, 24, 48, 96]), min_size=4, max_size=4).map(lambda w: Subnet(widths=tuple(w)))


@given(networks, st.integers(0, 3))
def test_dropping_a_block_never_costs_time(subnet, block):
    without = Subnet(widths=tuple(0 if i == block else width for i, width in enumerate(subnet.widths)))

    assert predict(TABLE, without) <= predict(TABLE, subnet)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("24-24", "has 2 blocks; the latency table is of 4"),
        ("24-24-24-97", "width 97 is outside"),
        ("8-0-0-24", "24 to"),
    ],
)
def test_what_the_table_does_not_report_is_refused(key, message):
    with pytest.raises(ValueError, match=message):
        predict(TABLE, Subnet.parse(key))


def test_a_calibrated_table_has_every_width_of_both_kinds_and_checks_itself(table):
    assert table["kinds"] == ["window", "global", "window", "global"]
    assert all(set(widths) == {"24", "48", "96"} for widths in table["blocks"].values())
    assert table["embed"] > 0
    assert table["readout"] > 0
    for check in table["checks"]:
        assert check["predicted"] == predict(table, Subnet.parse(check["subnet"]))
        assert check["error"] == pytest.approx(check["predicted"] / check["measured"] - 1)


def test_a_table_is_plain_json_and_read_back_as_it_was(table, tmp_path):
    latency.write(tmp_path / "latency.json", table)

    assert json.loads((tmp_path / "latency.json").read_text()) == table
    assert latency.read(tmp_path / "latency.json") == table


def test_predicting_needs_no_torch(tmp_path):
    latency.write(tmp_path / "latency.json", TABLE)
    code = (
        "import sys\n"
        "from quatrain.supernet.latency import predict, read\n"
        "from quatrain.supernet.space import Subnet\n"
        f"print(predict(read({str(tmp_path / 'latency.json')!r}), Subnet.parse('24-0-0-24')), 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["113.0", "False"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', '{"format": "quatrain-latency-1", "kinds": 3}']
)
def test_what_is_no_table_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "latency.json").write_text(text)

    with pytest.raises(UsageError, match=r"latency.json' is not a latency table of this version") as caught:
        latency.read(tmp_path / "latency.json")
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_reported(tmp_path):
    with pytest.raises(UsageError, match=r"there is no latency table '.*latency.json': calibrate one first"):
        latency.read(tmp_path / "latency.json")


def test_sides_run_in_turns_and_the_first_passes_do_not_count(monkeypatch):
    ends = [5.0, 9.0, 10.001, 10.004, 11.003, 12.004, 13.002, 14.009]
    begins = [0.0, 6.0, 10.0, 10.002, 11.0, 12.0, 13.0, 14.0]
    clock = iter([moment for pair in zip(begins, ends, strict=True) for moment in pair])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    calls = []

    found = milliseconds([lambda: calls.append("a"), lambda: calls.append("b")], Timing(warmup=1, repeats=3))

    assert calls == ["a", "b"] * 4
    assert found == pytest.approx([2.0, 4.0])


def test_every_network_gets_its_own_time():
    assert len(measure(elastic().image_encoder, [full_subnet(TINY), SPACE.smallest()], ONCE)) == 2


@pytest.mark.parametrize(("name", "value"), [("warmup", -1), ("repeats", 0), ("batch", 0)])
def test_timings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be at least"):
        Timing(**{name: value})
