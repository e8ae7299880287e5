from __future__ import annotations

import io
import signal
import time

import pytest

from quatrain.files import read_json
from quatrain.hpc.progress import Bars, Lines, Reading, as_line, progress, readings, span
from quatrain.hpc.run import Run, Terminated
from quatrain.progress import Meter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def reading(**changes):
    state = {"task": "search", "done": 40, "total": 200, "note": "", "first": 0, "began": 100.0, "updated": 120.0}
    return Reading(**{**state, **changes})


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def run(tmp_path):
    with Run.create("nas", {}, root=tmp_path) as opened:
        yield opened


def test_the_time_left_follows_from_the_pace_so_far():
    assert reading().left_s == pytest.approx(80)
    assert reading(done=200).left_s == 0


def test_what_an_earlier_driver_did_does_not_count_for_the_pace():
    assert reading(first=30).left_s == pytest.approx(320)


@pytest.mark.parametrize("changes", [{"done": 0}, {"total": None}, {"first": 40}, {"updated": 100.0}])
def test_without_a_pace_the_time_left_is_not_known(changes):
    assert reading(**changes).left_s is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (36061, "10:01:01"), (None, "-:--:--")]
)
def test_spans_are_written_as_clocks(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"note": "best 0.71"}, "search 40/200 (20 %), 0:01:20 left, best 0.71"),
        ({"done": 200}, "search 200/200 (100 %), done in 0:00:20"),
        ({"done": 0, "total": None}, "search begins"),
        ({"done": 7, "total": None, "note": "loss 1"}, "search 7, loss 1"),
        ({"done": 0, "total": 0}, "search 0/0 (0 %), done in 0:00:20"),
    ],
)
def test_a_reading_is_one_line(changes, text):
    assert as_line(reading(**changes)) == text


def test_files_that_are_torn_or_of_another_making_are_passed_over(tmp_path):
    Meter(tmp_path, "first", total=1)
    Meter(tmp_path, "second", total=1)
    (tmp_path / "progress" / "torn.json").write_text('{"task": "x"')
    (tmp_path / "progress" / "other.json").write_text('{"a": 1}')
    (tmp_path / "progress" / "list.json").write_text("[1]")

    assert [found.task for found in readings(tmp_path)] == ["first", "second"]


def test_a_log_gets_a_line_at_the_beginning_and_the_end_and_few_between():
    stream = io.StringIO()
    lines = Lines(stream)

    for done in (0, 1, 2, 50, 199, 200, 200):
        lines.paint(reading(done=done))

    assert [line.split("] ")[1].split(" (")[0] for line in stream.getvalue().splitlines()] == [
        "search 0/200",
        "search 200/200",
    ]


def test_a_log_gets_a_line_when_a_quarter_of_a_minute_went_by(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr("quatrain.hpc.progress.time.monotonic", lambda: now[0])
    lines = Lines(stream)

    for at, done in ((1, 0), (10, 5), (17, 9), (20, 11), (33, 30)):
        now[0] = float(at)
        lines.paint(reading(done=done))

    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["0/200", "9/200", "30/200"]


def test_tasks_of_the_driver_and_of_workers_show_alike(run):
    stream = io.StringIO()
    with progress(run, stream) as show:
        show.task("search", total=2)
        show.advance("search", 2, note="best 0.5")
        with show.task("train"):
            Meter(run.path, "train", total=9).set(9, note="loss 0.1")
        show.say("report: here")

    text = stream.getvalue()
    assert "search 2/2 (100 %)" in text
    assert "best 0.5" in text
    assert "train 9/9 (100 %)" in text
    assert "report: here" in text


def test_a_task_that_never_reports_a_total_is_finished_by_its_block(run):
    stream = io.StringIO()
    with progress(run, stream) as show, show.task("train"):
        time.sleep(0.01)

    assert "train 1/1 (100 %)" in stream.getvalue()


def test_a_task_that_fails_is_not_shown_as_done(run):
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), progress(run, stream) as show, show.task("train"):
        _ = 1 / 0

    assert "100 %" not in stream.getvalue()


def test_what_an_earlier_driver_left_is_not_shown(run):
    Meter(run.path, "stale", total=3)
    stream = io.StringIO()

    with progress(run, stream):
        pass

    assert "stale" not in stream.getvalue()


def test_a_terminal_gets_bars_with_an_estimate(run):
    stream = Terminal()
    with progress(run, stream) as show:
        show.task("search", total=4)
        show.advance("search", 4)
        show.say("half of it [done]")

    assert "search" in stream.getvalue()
    assert "4/4" in stream.getvalue()
    assert "half of it [done]" in stream.getvalue()


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_can_move_no_cursor_gets_plain_lines(run, monkeypatch, name):
    monkeypatch.setenv("TERM", name)
    stream = Terminal()
    with progress(run, stream) as show:
        show.task("search", total=4)
        show.advance("search", 4)

    assert "\x1b" not in stream.getvalue()
    assert "search 4/4 (100 %)" in stream.getvalue()


def test_what_is_said_last_stands_last(run):
    stream = io.StringIO()
    with progress(run, stream) as show:
        show.task("boost", total=1)
        show.advance("boost")
        show.say("report: here")
        show.say("overlay: there")

    assert [line.split("] ")[1].split()[0] for line in stream.getvalue().splitlines()][-3:] == [
        "boost",
        "report:",
        "overlay:",
    ]


class Broken(io.StringIO):
    """What `| head` leaves behind."""

    def write(self, _text):
        raise BrokenPipeError(32, "Broken pipe")


def test_a_run_that_nobody_reads_any_more_ends_as_when_its_terminal_hangs_up(tmp_path):
    run = Run.create("nas", {}, root=tmp_path)

    def work(show):
        show.task("search", total=4)
        time.sleep(60)

    with pytest.raises(Terminated) as end, run, progress(run, Broken()) as show:
        work(show)

    assert end.value.code == 128 + signal.SIGHUP
    assert read_json(run.path / "summary.json")["state"] == "interrupted"


def test_a_bar_moves_and_reports_what_is_left():
    stream = Terminal()
    bars = Bars(stream)
    bars.paint(reading(done=1, updated=101.0))
    bars.paint(reading(note="best 0.7"))
    bars.close()

    assert "0:01:20 left" in stream.getvalue()
    assert "best 0.7" in stream.getvalue()
