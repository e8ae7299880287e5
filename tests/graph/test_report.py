import pytest

from quatrain.files import write_json
from quatrain.graph.report import steady, trainings, write_report
from quatrain.report.folder import RunFolder

TIMES = ("sample_s", "pull_s", "lookup_s", "copy_s", "train_s", "wait_s")


def epochs(seconds, hits):
    row = {"seconds": seconds, **dict.fromkeys(TIMES, 0.1), "remote_bytes": 10**6, "remote_rows": 2500, "loss": 1.5}
    rates = {"halo_hit_rate": hits, "remote_hit_rate": hits}
    return [{**row, **rates, "seconds": 9.0}, {**row, **rates}, {**row, **rates, "accuracy": 0.8}]


@pytest.fixture
def run(tmp_path):
    parts = [
        {"inner": 10, "halo": 4, "edges": 40, "train": 3, "cut_from": [0, 1234], "halo_from": [0, 4]},
        {"inner": 12, "halo": 5, "edges": 44, "train": 3, "cut_from": [5678, 0], "halo_from": [5, 0]},
    ]
    partition = {"method": "metis", "vertices": 22, "edges": 84, "cut": 0.1, "parts": parts}
    rows = epochs(0.5, 0.6)
    summary = {"state": "done", "policy": "counts", "epochs": rows, "test_accuracy": 0.81, "buffer_rows": 9}
    write_json(tmp_path / "summary.json", {**summary, "data": "made:<i>community", "partition": partition})
    write_json(tmp_path / "run.json", {"command": ["--seed", "3"], "configuration": {"train": {}, "buffer": {}}})
    write_json(tmp_path / "epochs.json", rows)
    write_json(tmp_path / "policies" / "none" / "epochs.json", epochs(1.0, None))
    return tmp_path


def page(folder):
    return write_report(folder).read_text(encoding="utf8")


def test_the_headline_reports_what_the_buffer_saves(run):
    assert "an epoch takes 0.500 s, 50.0 % less than without a buffer" in page(run)


def test_every_section_is_there_and_the_page_stands_alone(run):
    text = page(run)

    for title in ("Comparison of policies", "Time of an epoch", "Hit rates of the buffer", "Bytes from other machines"):
        assert title in text
    assert "Left out" not in text
    assert text.count("<svg") >= 7
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<i>community" not in text


def test_the_cut_is_drawn_with_the_edges_between_the_machines(run):
    text = page(run)

    assert all(word in text for word in ("1.2k", "5.7k", "edges from machine", "edges to machine"))


def test_a_run_without_an_epoch_says_so(tmp_path):
    text = page(tmp_path)

    assert "no epoch has been trained" in text
    assert "the run has written no epochs.json" in text


def test_the_first_epoch_warms_up_and_does_not_count():
    assert steady(epochs(0.5, None), "seconds") == 0.5
    assert steady(epochs(0.5, None)[:1], "seconds") == 9.0
    assert steady(epochs(0.5, None), "halo_hit_rate") is None


def test_the_runs_own_policy_comes_first(run):
    assert list(trainings(RunFolder(run))) == ["counts", "none"]
