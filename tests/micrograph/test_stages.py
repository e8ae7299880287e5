import numpy as np
import pytest
import tifffile
from PIL import Image

from quatrain.files import plain, read_json, write_json
from quatrain.micrograph import stages
from quatrain.micrograph.config import BatchConfig, MasksConfig, MergingConfig
from quatrain.micrograph.inputs import InputImage, find
from quatrain.micrograph.report import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of every strange kind, and two good ones, one of them with truth."""
    where = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    half = np.where(np.arange(400) < 200, 60, 180)[None] + rng.integers(-20, 20, (400, 400))
    Image.fromarray(half.astype(np.uint8)).save(where / "good.png")
    Image.fromarray(np.broadcast_to(np.where(np.arange(400) < 200, 1, 2), half.shape).astype(np.uint8)).save(
        where / "good_truth.png"
    )
    Image.fromarray(np.dstack([half.astype(np.uint8)] * 4)).save(where / "rgba.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(where / "black.png")
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(where / "pixel.png")
    (where / "cut.png").write_bytes((where / "good.png").read_bytes()[:2000])
    tifffile.imwrite(where / "nan.tif", np.full((64, 64), np.nan, np.float32))
    some = half.astype(np.float32)
    some[:5] = np.nan
    tifffile.imwrite(where / "some_nan.tif", some)
    wide = np.tile(half.astype(np.uint8), (1, 12_000 // 400))
    Image.fromarray(wide).save(where / "wide.png")
    return where


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """The outcomes of boosting that folder by regions, and where their files lie."""
    config = BatchConfig(
        data=str(folder), k="truth", masks=MasksConfig(source="regions"), merging=MergingConfig(restarts=2)
    )
    where = tmp_path_factory.mktemp("run")
    items = find(config)
    return where, config, items, {one["name"]: one for one in stages.process(where, config, items, 0)}


def test_strange_files_fail_alone_with_their_name_and_reason(run):
    _, _, _, outcomes = run
    states = {name: outcome["state"] for name, outcome in outcomes.items()}

    good = ("good", "rgba", "some_nan", "wide")
    assert states == dict.fromkeys(good, "done") | dict.fromkeys(("black", "pixel", "cut", "nan"), "failed")
    assert "nothing to see" in outcomes["black"]["error"]
    assert "1 x 1" in outcomes["pixel"]["error"]
    assert "cut.png" in outcomes["cut"]["error"]
    assert "no finite" in outcomes["nan"]["error"]


def test_a_failed_image_leaves_no_files(run):
    where, _, _, _ = run

    assert {path.name for path in (where / "images").iterdir()} == {"good", "rgba", "some_nan", "wide"}


def test_an_image_with_truth_is_scored_and_one_without_is_not(run):
    _, _, _, outcomes = run

    assert outcomes["good"]["mean_iou_boosted"] > 0.8
    assert outcomes["good"]["materials"] == 2
    assert outcomes["rgba"]["mean_iou_boosted"] is None


def test_a_finished_image_is_not_done_again(run):
    where, config, items, _ = run
    files = {item.name: stages.image_folder(where, item.name) / "labels.tif" for item in items}
    before = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}

    left = [item.name for chunk in stages.chunks(where, config, items) for item in chunk]
    again = stages.process(where, config, [item for item in items if item.name == "good"], 0)

    assert set(left) == {"black", "pixel", "cut", "nan"}
    assert again[0]["state"] == "done"
    assert {name: files[name].stat().st_mtime_ns for name in before} == before


def test_chunks_hold_no_more_than_asked(tmp_path):
    items = [InputImage(name=f"i{i}", path="") for i in range(7)]

    assert [len(chunk) for chunk in stages.chunks(tmp_path, BatchConfig(chunk=3), items)] == [3, 3, 1]


def test_the_summary_has_a_line_per_image_and_means(run):
    _, _, items, outcomes = run

    found = stages.summary([outcomes[item.name] for item in items])

    keys = {"name", "state", "seconds", "masks_raw", "masks_kept", "materials", "error"}
    keys |= {f"{key}_{of}" for key in ("mean_iou", "fp", "precision", "recall") for of in ("raw", "boosted")}
    keys |= {"mean_iou_raw_painted", "warnings"}
    assert {frozenset(line) for line in found["images"]} == {frozenset(keys)}
    assert (found["done"], found["failed"]) == (4, 4)
    assert found["mean_iou_boosted"] == outcomes["good"]["mean_iou_boosted"]
    assert found["mean_fp_raw"] == outcomes["good"]["fp_raw"]


def test_the_report_shows_every_part_and_stands_alone(run):
    where, config, items, outcomes = run
    write_json(where / "run.json", {"configuration": plain(config), "seed": 0, "command": ["--data", "x"]})
    summary = stages.summary([outcomes[item.name] for item in items])
    write_json(where / "summary.json", {"state": "done", **summary})

    page = write_report(where).read_text(encoding="utf8")

    assert "Left out" not in page
    assert "(not SAM)" in page
    assert "failed: " in page
    assert "the paper" in page
    assert "multi-Otsu" in page
    assert "precision" in page
    assert page.count("data:image/") >= 16
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_an_empty_label_map_is_a_named_failure_and_is_repeated(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (80, 80)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(np.ones((80, 80), np.uint8)).save(tmp_path / "a_truth.png")
    write_json(tmp_path / "a.json", {"annotations": []})
    config = BatchConfig(data=str(tmp_path / "a.png"), masks=MasksConfig(source="json"))

    (outcome,) = stages.process(tmp_path / "run", config, find(config), 0)

    assert outcome["state"] == "failed"
    assert "the label map is empty: there is no raw mask" in outcome["error"]
    assert outcome["warnings"] == ["there is no raw mask: the share of false positives is undefined"]
    assert outcome["fp_raw"] is None
    assert stages.finished(tmp_path / "run", find(config)[0]) is None
    found = stages.summary([outcome])
    assert (found["failed"], found["mean_iou_raw"], found["mean_fp_raw"]) == (1, 0, None)
    assert found["mean_iou_boosted"] == 0


def test_a_run_without_images_still_has_a_report(tmp_path):
    page = write_report(tmp_path).read_text(encoding="utf8")

    assert "No image has been boosted" in page
    assert "Left out" in page


def test_the_overlay_exists(run):
    where, _, _, _ = run

    assert stages.show(where, "good", openly=False).is_file()


def test_a_result_that_a_crash_tore_is_made_again(tmp_path):
    item = InputImage(name="a", path="")
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "result.json").write_text('{"na')

    assert stages.finished(tmp_path, item) is None


def test_results_are_plain_json(run):
    where, _, _, outcomes = run

    assert read_json(where / "images" / "good" / "result.json")["name"] == outcomes["good"]["name"]


def test_results_and_report_name_the_pixel_size_its_source_and_the_data_bar(tmp_path):
    bar = np.zeros((16, 128), np.uint8)
    bar[:2], bar[5:11, 6:60:3] = 255, 255
    noise = np.random.default_rng(0).integers(30, 220, (96, 128)).astype(np.uint8)
    Image.fromarray(np.vstack([noise, bar])).save(tmp_path / "a.png")
    size = "0.5nm,0.6nm"
    config = BatchConfig(data=str(tmp_path), k=2, masks=MasksConfig(source="regions"), pixel_size=size)

    (outcome,) = stages.process(tmp_path / "run", config, find(config), seed=0)
    write_json(tmp_path / "run" / "run.json", {"configuration": plain(config), "seed": 0, "command": []})
    write_json(tmp_path / "run" / "summary.json", {"state": "done", **stages.summary([outcome])})
    page = write_report(tmp_path / "run").read_text(encoding="utf8")

    assert outcome["pixel_size_nm"] == [0.5, 0.6]
    assert outcome["pixel_size_source"] == "--pixel-size"
    assert outcome["data_bar_rows"] == 16
    assert "0.5 x 0.6 nm per pixel (--pixel-size), data bar of 16 rows cut" in page
    assert "a data bar of 16 rows was cut from the bottom" in page
