import numpy as np
import pytest
import tifffile
from PIL import Image

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


def test_a_broken_file_keeps_its_place_and_tells_when_it_is_read(tmp_path):
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
def test_a_source_that_is_not_there_is_told(data, words):
    with pytest.raises(UsageError, match=words):
        count(DataConfig(data=data))


def test_a_file_of_another_kind_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("x")

    with pytest.raises(UsageError, match="of no known format"):
        count(DataConfig(data=str(tmp_path / "a.txt")))
    with pytest.raises(UsageError, match=r"\*\*/\*"):
        count(DataConfig(data=str(tmp_path)))


def test_made_images_have_exact_truth_and_a_pixel_size():
    data = DataConfig(data="made:unseen", images=3, made_px=96)

    items = find(data)
    picture = load(items[2], data)

    assert len(items) == 3
    assert picture.pixel_size.nm == 0.5
    assert picture.image_HWC.shape == (96, 96, 3)
    assert sorted(np.unique(picture.truth_HW)) == list(range(1, picture.truth_HW.max() + 1))
