from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from quatrain.workflows.__main__ import main
from quatrain.workflows._check import notice


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    return tmp_path


def test_a_folder_without_warnings_ends_with_0_and_one_row_per_image(folder, capsys):
    assert main(["check", str(folder)]) == 0

    output = capsys.readouterr().out
    assert "a.png" in output
    assert "16 x 16" in output
    assert "none: the file states no pixel size" in output


def test_a_damaged_file_ends_with_1_and_is_named(folder, capsys):
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    assert main(["check", str(folder)]) == 1
    assert "warning: b.png: cannot be read" in capsys.readouterr().out


def test_a_path_that_is_not_there_ends_with_2_and_one_line(tmp_path, capsys):
    assert main(["check", str(tmp_path / "absent")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_json_lists_files_and_a_summary(folder, capsys):
    assert main(["check", str(folder), "--json"]) == 0

    record = json.loads(capsys.readouterr().out)
    (image,) = record["files"][0]["images"]
    assert (image["shape"], image["dtype"], image["min"], image["max"]) == ([16, 16], "uint8", 0, 255)
    assert record["summary"]["images"] == 1


def test_a_graph_folder_is_counted(tmp_path, capsys):
    np.save(tmp_path / "edges.npy", np.array([[0, 1, 2, 3], [1, 2, 3, 0]]))
    np.save(tmp_path / "features.npy", np.ones((4, 2), np.float32))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 0, 1]))
    for name, ids in (("train", [0, 1]), ("valid", [2]), ("test", [3])):
        np.save(tmp_path / f"{name}.npy", np.array(ids))

    assert main(["check", str(tmp_path), "--json"]) == 0

    summary = json.loads(capsys.readouterr().out)["summary"]
    assert (summary["vertices"], summary["edges"], summary["classes"]) == (4, 4, 2)
    assert summary["splits"] == {"train": 2, "valid": 1, "test": 1}


def test_a_run_names_the_number_of_warnings_of_its_images(folder):
    assert notice(str(folder), "boost") == ""

    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    assert "inputs: 1 warnings" in notice(str(folder), "boost")
    assert notice("made:unseen", "nas") == ""
