from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from buffer_world import COUNT, LOCAL, halos, steps
from hypothesis import given

from quatrain.errors import UsageError
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter, read_trace

SETUP = TraceSetup(halo=HaloTable([3, 9], [5, 4]), dim=7, vertex_count=60, part=1)


@given(halos(), steps(range(COUNT)))
def test_a_trace_holds_the_reads(halo, accesses):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.h5"
        setup = TraceSetup(halo=halo, dim=3, vertex_count=COUNT)
        with TraceWriter(path, setup, flush_every=2) as writer:
            for step in accesses:
                writer.read(step, LOCAL)
                writer.next_epoch()
        trace = read_trace(path)

    own = [(step >= LOCAL.start) & (step < LOCAL.stop) for step in accesses]
    assert [step.tolist() for step in trace.steps()] == [
        step[~mine].tolist() for step, mine in zip(accesses, own, strict=True)
    ]
    assert trace.local.tolist() == [int(mine.sum()) for mine in own]
    assert (len(trace), trace.epochs) == (len(accesses), len(accesses))
    assert trace.setup.halo.ids.tolist() == halo.ids.tolist()


def test_a_trace_is_plain_hdf5(tmp_path):
    with TraceWriter(tmp_path / "trace.h5", SETUP) as writer:
        writer.step(np.array([9, 1]), 4)
        writer.times(sample_s=0.25, train_s=0.5)
        writer.times(sample_s=0.75, train_s=0.5)

    with h5py.File(tmp_path / "trace.h5") as file:
        assert dict(file.attrs) == {"format": "quatrain-trace", "version": 1, "dim": 7, "vertex_count": 60, "part": 1}
        assert file["halo/degrees"][:].tolist() == [5, 4]
        assert file["accesses/vertices"][:].tolist() == [9, 1]
        assert (file["steps/end"][:].tolist(), file["steps/local"][:].tolist()) == ([2], [4])
    trace = read_trace(tmp_path / "trace.h5")
    assert (trace.sample_s, trace.train_s) == (0.5, 0.5)


def test_a_trace_can_be_read_while_it_grows(tmp_path):
    with TraceWriter(tmp_path / "trace.h5", SETUP, flush_every=1) as writer:
        writer.step(np.array([9]), 0)
        path = str(tmp_path / "trace.h5")
        code = f"from quatrain.graph.tuning.trace import read_trace; print(len(read_trace({path!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_flushed_steps_remain_after_a_kill(tmp_path):
    code = """
import os, signal, sys
import numpy as np
from quatrain.graph.features.candidates import HaloTable
from quatrain.graph.tuning.trace import TraceSetup, TraceWriter
setup = TraceSetup(halo=HaloTable([3, 9], [5, 4]), dim=7, vertex_count=60)
writer = TraceWriter(sys.argv[1], setup, flush_every=2)
for step in range(5):
    writer.step(np.arange(step), 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "trace.h5")], check=False)

    assert done.returncode == -9
    assert [len(step) for step in read_trace(tmp_path / "trace.h5").steps()] == [0, 1, 2, 3]


def test_a_trace_is_never_overwritten(tmp_path):
    TraceWriter(tmp_path / "trace.h5", SETUP).close()

    with pytest.raises(UsageError, match=r"trace\.h5 exists"):
        TraceWriter(tmp_path / "trace.h5", SETUP)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    TraceWriter(tmp_path / "empty.h5", SETUP).close()

    for name, problem in (
        ("missing.h5", "there is no trace .*--record-trace"),
        ("text.h5", "is not a trace: not HDF5"),
        ("other.h5", "not a quatrain-trace of version 1"),
        ("empty.h5", "has no complete step"),
    ):
        with pytest.raises(UsageError, match=problem):
            read_trace(tmp_path / name)
