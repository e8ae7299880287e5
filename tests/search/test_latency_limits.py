from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_worlds import MINI, SAM

from quatrain.errors import UsageError
from quatrain.search.constraints import Bounds, TimeTable
from quatrain.search.neighbours import larger, repair
from quatrain.seeding import numpy_rng
from quatrain.supernet.cost import full_subnet

WIDTHS = ("96", "128", "192", "288", "384")
KINDS = ["global" if block in SAM.global_blocks else "window" for block in range(SAM.depth)]


def table(times):
    blocks = {
        "global": dict(zip(WIDTHS, times, strict=True)),
        "window": dict(zip(WIDTHS, [t / 2 for t in times], strict=True)),
    }
    return TimeTable({"embed": 1.0, "readout": 2.0, "kinds": KINDS, "blocks": blocks})


noisy = st.lists(st.floats(0.1, 9), min_size=5, max_size=5).map(table)


@given(noisy, st.integers(0, 99))
def test_a_larger_network_is_never_the_faster_one_however_noisy_the_table(latency, seed):
    subnet = MINI.sample(numpy_rng(seed, "net"))

    assert all(latency.ms(other) >= latency.ms(subnet) for other in larger(MINI, subnet))


@given(noisy, st.integers(0, 99))
def test_what_is_too_slow_is_repaired_into_something_fast_enough(latency, seed):
    low, high = latency.ms(MINI.smallest()), latency.ms(MINI.largest())
    bounds = Bounds(sam=SAM, max_latency_ms=low + 0.3 * (high - low) + 1e-9, latency=latency)

    assert bounds.admits(repair(MINI, bounds, MINI.sample(numpy_rng(seed, "net")), seed=0))


def test_a_table_that_grows_is_taken_as_it_is():
    latency = table([1, 2, 3, 4, 5])

    assert latency.ms(full_subnet(SAM)) == pytest.approx(3 + 4 * 5 + 8 * 2.5)


def test_a_limit_below_the_fastest_network_is_refused_with_its_time():
    latency = table([1, 2, 3, 4, 5])

    with pytest.raises(UsageError, match=r"at most 4 ms: the smallest of this space takes .* ms here; raise --max-lat"):
        Bounds(sam=SAM, max_latency_ms=4, latency=latency).check(MINI)


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "latency.json").write_text("{}")

    with pytest.raises(UsageError, match="not a latency table"):
        TimeTable.read(tmp_path / "latency.json")
