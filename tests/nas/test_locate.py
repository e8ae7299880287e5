from __future__ import annotations

import shutil

import pytest
from search_worlds import MINI

from quatrain.errors import UsageError
from quatrain.files import write_json
from quatrain.nas.locate import PORTABLE, find


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("supernet", "start"):
        (tmp_path / "run" / "checkpoints" / f"{name}.pt").write_bytes(b"weights")
    write_json(tmp_path / "run" / "study.json", {"config": {"model": "vit_mini"}, "space": MINI})
    return tmp_path / "run"


@pytest.mark.parametrize("within", ["", "checkpoints/supernet.pt"])
def test_a_run_folder_and_its_checkpoint_name_the_same_supernet(run, within):
    source = find(run / within)

    assert source.folder == run
    assert source.space == MINI
    assert source.sam.name == "vit_mini"


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no supernet .*nowhere.*give the folder of a nas run"):
        find(tmp_path / "nowhere")


def test_another_checkpoint_is_no_supernet(run):
    (run / "checkpoints" / "best.pth").write_bytes(b"weights")

    with pytest.raises(UsageError, match=r"best\.pth' is not a supernet.*quatrain nas --checkpoint"):
        find(run / "checkpoints" / "best.pth")


def test_a_supernet_away_from_its_run_has_no_space(tmp_path):
    (tmp_path / "supernet.pt").write_bytes(b"weights")

    with pytest.raises(UsageError, match=r"no study\.json has its space"):
        find(tmp_path / "supernet.pt")


def test_a_copy_with_what_is_portable_is_a_supernet_and_what_it_lacks_is_named(run, tmp_path):
    for name in PORTABLE:
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, tmp_path / "copy" / name)
    assert find(tmp_path / "copy").space == MINI

    (tmp_path / "copy" / "checkpoints" / "start.pt").unlink()
    with pytest.raises(UsageError, match=r"copy' lacks checkpoints/start\.pt: copy it from the run that trained"):
        find(tmp_path / "copy")


def test_a_run_that_has_trained_nothing_is_to_be_resumed(run):
    (run / "checkpoints" / "supernet.pt").unlink()

    with pytest.raises(UsageError, match="has trained no supernet yet"):
        find(run)


@pytest.mark.parametrize("record", [{}, {"config": {"model": "vit_mini"}, "space": None}, [], {"config": 3}])
def test_a_record_of_another_version_is_refused(run, record):
    write_json(run / "study.json", record)

    with pytest.raises(UsageError, match=r"study\.json is not of this version"):
        find(run)
