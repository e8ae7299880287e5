import h5py
import numpy as np
import pytest
from micrograph_world import two_materials
from PIL import Image

from quatrain.files import read_json
from quatrain.micrograph.config import BatchConfig, MasksConfig
from quatrain.micrograph.inputs import find
from quatrain.micrograph.outputs import RUN_SCHEMA, write_results
from quatrain.micrograph.stages import process


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with one image, one in a folder of its own with truth, and one that is broken; boosted."""
    root = tmp_path_factory.mktemp("boost")
    pixels, truth, _ = two_materials(128)
    (root / "data" / "deep").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "data" / "plain.png")
    Image.fromarray(pixels).save(root / "data" / "deep" / "known.png")
    Image.fromarray(truth.astype(np.uint8)).save(root / "data" / "deep" / "known_truth.png")
    (root / "data" / "torn.png").write_bytes(b"nothing")
    config = BatchConfig(data=str(root / "data"), pattern="**/*", k=2, masks=MasksConfig(source="regions"))
    outcomes = process(root / "run", config, find(config), seed=0)
    write_results(root / "run", outcomes)
    return root / "run", outcomes


def column(file, name):
    values = file[name]
    return list(values.asstr()[:] if h5py.check_string_dtype(values.dtype) else values[:])


def test_every_image_has_a_line_with_its_figures(run):
    folder, outcomes = run
    with h5py.File(folder / "results.h5") as file:
        assert file.attrs["schema"] == RUN_SCHEMA
        assert column(file, "images/name") == [one["name"] for one in outcomes]
        assert dict(zip(column(file, "images/name"), column(file, "images/state"), strict=True)) == {
            "deep/known": "done",
            "plain": "done",
            "torn": "failed",
        }
        iou = dict(zip(column(file, "images/name"), column(file, "images/mean_iou_boosted"), strict=True))
    assert iou["deep/known"] == pytest.approx(
        read_json(folder / "images" / "deep" / "known" / "result.json")["mean_iou_boosted"]
    )
    assert np.isnan(iou["plain"])


def test_masks_are_reached_through_the_run_with_nothing_but_h5py(run):
    folder, outcomes = run
    with h5py.File(folder / "results.h5") as file:
        own = file["boost/deep/known"]
        assert own.attrs["schema"] == "quatrain-boost-1"
        assert own["labels"].shape == (128, 128)
        kept = [one["masks_kept"] for one in outcomes if one["state"] == "done"]
        assert len(file["boost/plain/kept/area"]) == kept[1]
        assert "torn" not in file["boost"]
        assert len(file["regions/area_px"]) == sum(kept)
        assert set(column(file, "regions/image")) == {"deep/known", "plain"}
        assert file["regions/area_px"].dtype == np.int64
        assert file["regions/low_support"].dtype == bool
        assert set(column(file, "removed/rule")) <= {*column(file, "ablation/step")}
        assert column(file, "ablation/step")[0] == "raw"
        assert column(file, "ablation/step")[-1] == "merging"


def test_a_moved_run_folder_keeps_its_links(run, tmp_path):
    folder, _ = run
    folder.rename(tmp_path / "moved")
    try:
        with h5py.File(tmp_path / "moved" / "results.h5") as file:
            assert file["boost/plain/image"].shape == (128, 128)
    finally:
        (tmp_path / "moved").rename(folder)


def test_a_run_of_which_nothing_came_out_has_its_results_too(tmp_path):
    outcome = {"name": "a", "state": "failed", "error": "broken", "seconds": 0.0, "path": "a.png"}

    write_results(tmp_path, [outcome])

    with h5py.File(tmp_path / "results.h5") as file:
        assert column(file, "images/error") == ["broken"]
        assert len(file["regions"]) == 0
