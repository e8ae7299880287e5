import h5py
import numpy as np
import pytest
import tifffile
from micrograph_world import write_velox
from PIL import Image

from quatrain.data.data_bar import find_data_bar
from quatrain.errors import UsageError
from quatrain.micrograph.config import DataConfig
from quatrain.micrograph.inputs import count, find, load

GREY = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)


def save(path, pixels=GREY):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def names(folder, **settings):
    return [item.name for item in find(DataConfig(data=str(folder), **settings))]


def test_a_folder_is_its_images_without_their_truths(tmp_path):
    for name in ("b.png", "a.png", "a_truth.png", ".hidden.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")

    assert names(tmp_path) == ["a", "b"]


def test_a_pattern_chooses_and_reaches_into_folders(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "b.png")

    assert names(tmp_path, pattern="**/*") == ["a", "deep/b"]
    assert names(tmp_path, pattern="a*") == ["a"]
    with pytest.raises(UsageError, match=r"matches '\*\.dm4'"):
        find(DataConfig(data=str(tmp_path), pattern="*.dm4"))


def test_images_of_one_stem_keep_their_suffix(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.bmp")

    assert names(tmp_path) == ["a.bmp", "a.png"]


def test_a_stack_is_an_item_a_frame(tmp_path):
    stack = np.stack([GREY + i for i in range(11)])
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")

    items = find(DataConfig(data=str(tmp_path / "s.tif")))

    assert [item.name for item in items[:2]] == ["s-00", "s-01"]
    assert len(items) == 11
    assert count(DataConfig(data=str(tmp_path))) == 1
    assert load(items[3], DataConfig()).image_HWC.shape == (40, 50, 3)


def test_a_damaged_file_is_listed_and_named_when_it_is_read(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "bad.tif").write_bytes(b"broken")
    data = DataConfig(data=str(tmp_path))

    bad, _ = find(data)

    assert bad.name == "bad"
    with pytest.raises(UsageError, match=r"bad\.tif' cannot be used"):
        load(bad, data)


def test_the_truth_beside_an_image_becomes_materials_from_one(tmp_path):
    save(tmp_path / "a.png")
    truth = np.zeros((40, 50), np.uint8)
    truth[10:], truth[20:] = 100, 255
    save(tmp_path / "a_truth.png", truth)

    picture = load(find(DataConfig(data=str(tmp_path)))[0], DataConfig())

    assert np.unique(picture.truth_HW).tolist() == [0, 1, 2]
    assert picture.truth_HW[5, 5] == 0
    assert picture.truth_HW[30, 5] == 2


def test_a_truth_of_another_size_is_named(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a_truth.png", GREY[:20])

    with pytest.raises(UsageError, match=r"a_truth\.png' has 50 x 20 pixels, its image 50 x 40"):
        load(find(DataConfig(data=str(tmp_path)))[0], DataConfig())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nowhere", "there is no 'nowhere'"),
        ("made:fibre,foam", "did you mean 'fibres'"),
        ("made:foam", "names one material"),
    ],
)
def test_a_source_that_does_not_exist_is_named(data, words):
    with pytest.raises(UsageError, match=words):
        count(DataConfig(data=data))


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")

    with pytest.raises(UsageError, match="of no known format"):
        count(DataConfig(data=str(tmp_path / "a.txt")))
    with pytest.raises(UsageError, match=r"\*\*/\*"):
        count(DataConfig(data=str(tmp_path)))


def test_synthetic_images_have_exact_truth_and_a_pixel_size():
    data = DataConfig(data="made:unseen", images=3, made_px=96)

    items = find(data)
    picture = load(items[2], data)

    assert len(items) == 3
    assert picture.pixel_size.nm == 0.5
    assert picture.image_HWC.shape == (96, 96, 3)
    assert sorted(np.unique(picture.truth_HW)) == list(range(1, picture.truth_HW.max() + 1))


# Names


def test_a_stack_beside_a_file_with_the_name_of_its_first_frame_has_names_of_its_own(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", np.stack([GREY, GREY[::-1]]), photometric="minisblack")
    save(tmp_path / "scan-0.tif")

    assert sorted(names(tmp_path)) == ["scan-0", "scan.tif-0", "scan.tif-1"]


@pytest.mark.parametrize(
    "files",
    [
        ("a.png", "A.PNG", "a.bmp"),
        ("a.tif", "a.png", "a.tif.png"),
        ("scan.tif", "scan.png", "scan-0.png", "scan.tif-0.png"),
        ("deep/a.png", "a.png", "deep/a.bmp"),
        ("scan.tif", "SCAN-1.png", "scan.tiff"),
    ],
)
def test_no_two_images_of_a_folder_have_one_name(tmp_path, files):
    for file in files:
        if file.startswith("scan.tif") and file.endswith(("tif", "tiff")):
            tifffile.imwrite(tmp_path / file, np.stack([GREY, GREY[::-1]]), photometric="minisblack")
        else:
            save(tmp_path / file)

    found = [name.casefold() for name in names(tmp_path, pattern="**/*")]

    assert len(set(found)) == len(found) >= len(files)


# Several images in a file


def write_detectors(path):
    """A Velox file of one scan with two detectors."""
    write_velox(path, GREY.astype(np.uint16), 2e-10)
    with h5py.File(path, "a") as file:
        images = file["Data/Image"]
        (first,) = list(images)
        images.copy(first, "f" * 32)
        words = bytes(np.ravel(images["f" * 32]["Metadata"][()])).replace(b'"HAADF"', b'"BF"   ')
        images["f" * 32]["Metadata"][...] = np.frombuffer(words, np.uint8)[:, None]
        images["f" * 32]["Data"][...] = GREY[::-1, :, None]


def test_all_detectors_of_a_velox_file_are_images_or_the_one_that_is_named(tmp_path):
    write_detectors(tmp_path / "scan.emd")
    data = DataConfig(data=str(tmp_path / "scan.emd"))

    found = find(data)
    (named,) = find(DataConfig(data=data.data, key="BF"))

    assert [item.name for item in found] == ["scan-HAADF", "scan-BF"]
    grey = [load(item, data).image_HWC[..., 0] for item in found]
    assert np.array_equal(grey[0], grey[1][::-1])
    assert np.array_equal(load(named, data).image_HWC[..., 0], grey[1])


def test_a_key_that_names_nothing_is_refused_with_the_names_there_are(tmp_path):
    write_detectors(tmp_path / "scan.emd")
    data = DataConfig(data=str(tmp_path / "scan.emd"), key="DF4")

    with pytest.raises(UsageError, match="no images under 'DF4'; it has HAADF, BF"):
        load(find(data)[0], data)


# Data bars and pixel sizes


def with_bar(height=96, rows=16):
    """A noisy image above a black bar with white letters, as SEMs print it."""
    bar = np.zeros((rows, 128), np.uint8)
    bar[:2], bar[5:11, 6:60:3] = 255, 255
    return np.vstack([np.random.default_rng(0).integers(30, 220, (height, 128)).astype(np.uint8), bar])


@pytest.mark.parametrize("stated", [True, False])
def test_the_data_bar_of_an_sem_is_cut_from_image_and_truth(tmp_path, stated):
    tags = "[Scan]\r\nPixelWidth=5e-09\r\nPixelHeight=5e-09\r\n[Image]\r\nResolutionX=128\r\nResolutionY=96\r\n"
    options = {"extratags": [(34682, 2, 0, tags.encode(), True)]} if stated else {}
    tifffile.imwrite(tmp_path / "a.tif", with_bar(), metadata=None, **options)
    save(tmp_path / "a_truth.png", np.ones((112, 128), np.uint8))
    data = DataConfig(data=str(tmp_path))

    image = load(find(data)[0], data)
    kept = load(find(data)[0], DataConfig(data=data.data, data_bar="keep"))

    assert image.image_HWC.shape == (96, 128, 3)
    assert image.truth_HW.shape == (96, 128)
    assert image.data_bar_rows == 16
    assert image.warnings == ("a data bar of 16 rows was cut from the bottom",)
    assert (kept.image_HWC.shape, kept.data_bar_rows) == ((112, 128, 3), 0)


@pytest.mark.parametrize("look", ["noise", "flat", "dark", "saturated", "stripes"])
def test_an_image_without_a_data_bar_is_not_cut(look):
    image = with_bar()[:96].copy()
    image[-20:] = {
        "noise": image[-20:],
        "flat": 0,
        "dark": image[-20:] // 60,
        "saturated": np.where(image[-20:] > 90, 255, image[-20:]),
        "stripes": np.where(np.arange(128) % 7 < 4, 0, 200),
    }[look]

    assert find_data_bar(image) == 0


def test_the_pixel_size_of_the_command_line_overrides_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(1e6, 1e6), resolutionunit="CENTIMETER", metadata=None)
    data = DataConfig(data=str(tmp_path), pixel_size="0.5nm,0.6nm")

    size = load(find(data)[0], data).pixel_size

    assert (size.y_nm, size.x_nm, size.source) == (0.5, 0.6, "--pixel-size")
    with pytest.raises(ValueError, match=r"pixel_size is '5'; it must be like 0\.5nm"):
        DataConfig(pixel_size="5")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((20, 20)), "nothing to see"),
        (np.full((20, 20), np.nan), "no finite"),
        (np.ones((1, 1)), "1 x 1"),
        (np.arange(30.0).reshape(1, 30), "30 x 1"),
    ],
)
def test_images_with_nothing_in_them_are_refused(pixels, words, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.float32))
    data = DataConfig(data=str(tmp_path))

    with pytest.raises(UsageError, match=words):
        load(find(data)[0], data)
