import h5py
import numpy as np
import pytest
import tifffile
from micrograph_world import write_dm3, write_dm4, write_mrc, write_ncem, write_ser, write_velox
from PIL import Image

from quatrain.data.decode import UnreadableError, images, read
from quatrain.data.units import nm_per
from quatrain.micrograph.config import BatchConfig, MasksConfig
from quatrain.micrograph.inputs import find
from quatrain.micrograph.stages import image_folder, process

PIXELS = np.random.default_rng(0).integers(0, 4000, (20, 32))


WRITTEN = [
    ("a.dm3", write_dm3, 0.5, 0.5),
    ("a.dm4", write_dm4, 0.5, 0.5),
    ("a.mrc", write_mrc, 5.0, 0.5),
    ("a.ser", write_ser, 2e-10, 0.2),
    ("velox.emd", write_velox, 2e-10, 0.2),
    ("ncem.emd", write_ncem, 0.2, 0.2),
]


@pytest.mark.parametrize(("name", "write", "given", "nm"), WRITTEN)
def test_microscope_files_give_their_numbers_and_pixel_size(name, write, given, nm, tmp_path):
    write(tmp_path / name, PIXELS, given)

    found = read(tmp_path / name)

    assert np.array_equal(found.pixels, PIXELS)
    assert found.pixel_size.nm == pytest.approx(nm, rel=1e-5)
    assert images(tmp_path / name)[0].frames == 1


@pytest.mark.parametrize(("name", "write", "given", "nm"), WRITTEN)
def test_pixel_size_and_unit_are_kept_to_the_label_map_and_the_hdf5(name, write, given, nm, tmp_path):
    write(tmp_path / name, np.random.default_rng(0).integers(0, 4000, (96, 128)), given)
    config = BatchConfig(data=str(tmp_path / name), k=2, masks=MasksConfig(source="regions"))
    (item,) = find(config)

    (outcome,) = process(tmp_path / "run", config, [item], seed=0)

    assert outcome["state"] == "done", outcome
    size, folder = read(tmp_path / name).pixel_size, image_folder(tmp_path / "run", outcome["name"])
    with tifffile.TiffFile(folder / "labels.tif") as tiff:
        unit = tiff.imagej_metadata["unit"]
        (x_number, x_per), (y_number, y_per) = (tiff.pages[0].tags[f"{axis}Resolution"].value for axis in "XY")
        assert tiff.pages[0].shape == (96, 128)
        assert tiff.pages[0].dtype == np.uint16
        assert nm_per(unit) * x_per / x_number == pytest.approx(nm, rel=1e-5)
        assert nm_per(unit) * y_per / y_number == pytest.approx(nm, rel=1e-5)
    assert read(folder / "labels.tif").pixel_size.nm == pytest.approx(nm, rel=1e-4)
    with h5py.File(folder / "boost.h5") as file:
        assert file.attrs["pixel_size_nm"].tolist() == [size.y_nm, size.x_nm]
        assert (file.attrs["pixel_size"], file.attrs["unit"]) == (size.x_nm, "nm")


@pytest.mark.parametrize("name", ["a.dm3", "a.dm4", "a.mrc", "a.ser", "a.emd", "a.h5", "a.tif", "a.png", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", bytes(3000)])
def test_files_of_another_kind_are_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnreadableError):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.dm3", write_dm3),
        ("a.dm4", write_dm4),
        ("a.ser", write_ser),
        ("velox.emd", write_velox),
        ("ncem.emd", write_ncem),
        ("a.mrc", write_mrc),
    ],
)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_files_that_are_cut_off_are_refused(name, write, share, tmp_path):
    write(tmp_path / name, PIXELS, 1e-9)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(UnreadableError):
        read(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_tiff_keeps_its_depth(dtype, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", (PIXELS % 250).astype(dtype))

    found = read(tmp_path / "a.tif")

    assert found.pixels.dtype == dtype
    assert np.array_equal(found.pixels, (PIXELS % 250).astype(dtype))
    assert found.pixel_size is None


def test_a_stack_is_its_frames(tmp_path):
    stack = np.stack([PIXELS, PIXELS[::-1], PIXELS + 1]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    write_mrc(tmp_path / "a.mrc", stack, 1.0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = stack

    for name in ("a.tif", "a.mrc", "a.h5"):
        assert images(tmp_path / name)[0].frames == 3
        assert np.array_equal(read(tmp_path / name, frame=1).pixels, stack[1])


def test_hdf5_needs_a_key_where_it_holds_more_than_one(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["group/two"] = PIXELS, PIXELS[::-1]
        file["group/two"].attrs.update({"pixel_size": 0.3, "unit": "nm"})
        file["words"] = "no image"

    found = read(tmp_path / "a.h5", key="group/two")

    assert np.array_equal(found.pixels, PIXELS[::-1])
    assert (found.pixel_size.y_nm, found.pixel_size.x_nm) == (0.3, 0.3)
    with pytest.raises(UnreadableError, match="--key: group/two, one"):
        read(tmp_path / "a.h5")
    with pytest.raises(UnreadableError, match="no images under 'three'"):
        read(tmp_path / "a.h5", key="three")


def test_png_jpeg_and_alpha_are_read(tmp_path):
    grey = (PIXELS % 250).astype(np.uint8)
    Image.fromarray(np.dstack([grey] * 4)).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "a.jpg")

    assert read(tmp_path / "a.png").pixels.shape == (20, 32, 4)
    assert read(tmp_path / "a.jpg").pixels.shape == (20, 32)
