from __future__ import annotations

import h5py

from quatrain.files import append_line, write_json
from quatrain.nas.results import write_results


def test_every_figure_of_a_run_is_a_column(tmp_path):
    write_json(tmp_path / "table.json", [{"name": "best", "params": 5, "miou_oracle": 0.5}])
    write_json(tmp_path / "importance.json", {"importance": [0.3, 0.1], "removable": [1], "probability": [0.5]})
    append_line(tmp_path / "training.jsonl", {"run": "finetune", "step": 1, "net": "full", "loss": 2.5})
    for line in (
        {"event": "start"},
        {"event": "propose", "key": "8-8"},
        {"event": "record", "key": "8-8", "params": 7, "proposed": True, "metrics": {"miou_oracle": 0.25}},
    ):
        append_line(tmp_path / "search.jsonl", line)

    assert write_results(tmp_path) == tmp_path / "results.h5"

    with h5py.File(tmp_path / "results.h5") as file:
        assert file["table/params"][:].tolist() == [5]
        assert file["importance/drop_probability"][:].tolist() == [0.0, 0.5]
        assert file["training/loss"][:].tolist() == [2.5]
        assert set(file["search"]) == {"key", "params", "proposed", "miou_oracle"}
        assert file["search/miou_oracle"][:].tolist() == [0.25]


def test_parts_that_an_interrupted_run_lacks_are_left_out(tmp_path):
    append_line(tmp_path / "training.jsonl", {"run": "finetune", "step": 1, "net": "full", "loss": 2.5})

    write_results(tmp_path)

    with h5py.File(tmp_path / "results.h5") as file:
        assert list(file) == ["training"]
