from __future__ import annotations

import h5py
import numpy as np
import pytest

from quatrain.hdf5_tables import write_columns


def written(path, **tables):
    write_columns(path, tables)
    with h5py.File(path) as file:
        return {f"{table}/{name}": data[:] for table, group in file.items() for name, data in group.items()}


def test_numbers_keep_their_kind(tmp_path):
    columns = written(
        tmp_path / "x.h5", nets=[{"params": 3, "miou": 0.5, "kept": True}, {"params": 4, "miou": 1, "kept": False}]
    )

    assert columns["nets/params"].dtype == np.int64
    assert columns["nets/params"].tolist() == [3, 4]
    assert columns["nets/miou"].tolist() == [0.5, 1.0]
    assert columns["nets/kept"].tolist() == [True, False]


def test_what_a_row_lacks_is_not_a_number_or_empty(tmp_path):
    columns = written(
        tmp_path / "x.h5", nets=[{"name": "größte", "spread": None, "ms": 2}, {"spread": 0.1, "note": None}]
    )

    assert [text.decode() for text in columns["nets/name"]] == ["größte", ""]
    assert np.isnan(columns["nets/spread"]).tolist() == [True, False]
    assert np.isnan(columns["nets/ms"]).tolist() == [False, True]
    assert columns["nets/note"].tolist() == [b"", b""]


def test_a_table_without_rows_is_an_empty_group(tmp_path):
    write_columns(tmp_path / "x.h5", {"nothing": []})

    with h5py.File(tmp_path / "x.h5") as file:
        assert list(file["nothing"]) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.h5"
    write_columns(path, {"nets": [{"params": 1}]})

    with pytest.raises(OverflowError):
        write_columns(path, {"nets": [{"params": 1 << 80}]})

    with h5py.File(path) as file:
        assert file["nets/params"][:].tolist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["x.h5"]
