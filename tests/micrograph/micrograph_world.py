"""A small micrograph of two materials with exact masks, and files of formats that microscopes write."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def disc(hw, centre, radius):
    """A round mask."""
    rows, columns = np.ogrid[: hw[0], : hw[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def box(hw, top, left, bottom, right):
    """A rectangular mask."""
    mask = np.zeros(hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def record(mask, predicted_iou=0.9, stability=0.95):
    """A mask as segment_anything's generator gives it."""
    return {"segmentation": mask, "predicted_iou": predicted_iou, "stability_score": stability}


def two_materials(side=256, seed=0):
    """Stripes on the left and in a disc on the right, noise elsewhere: image, truth, SAM-like records."""
    rng = np.random.default_rng(seed)
    columns = np.arange(side)
    stripes = np.broadcast_to(127 + 60 * np.sin(2 * np.pi * columns / 7), (side, side))
    noise = 127 + 40 * rng.standard_normal((side, side))
    left = box((side, side), 0, 0, side, side // 2)
    inside = disc((side, side), (side // 2, 3 * side // 4), side // 5)
    striped = left | inside
    image = np.clip(np.where(striped, stripes, noise), 0, 255).astype(np.uint8)
    masks = [left, inside, ~striped, np.ones((side, side), bool), left & ~box(left.shape, 0, 0, 6, 6)]
    scores = [0.95, 0.9, 0.85, 0.99, 0.8]
    return image, np.where(striped, 1, 2), [record(m, s) for m, s in zip(masks, scores, strict=True)]


def write_mrc(path: Path, pixels: np.ndarray, pixel_angstrom: float) -> None:
    """A minimal MRC file of float32 pixels, (H, W) or (frames, H, W)."""
    volume = pixels[None] if pixels.ndim == 2 else pixels
    depth, height, width = volume.shape
    header = bytearray(1024)
    struct.pack_into("<10i", header, 0, width, height, depth, 2, 0, 0, 0, width, height, depth)
    struct.pack_into("<3f", header, 40, width * pixel_angstrom, height * pixel_angstrom, depth * pixel_angstrom)
    struct.pack_into("<3f", header, 52, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:212] = b"MAP "
    header[212:216] = bytes([0x44, 0x44, 0, 0])
    path.write_bytes(bytes(header) + volume.astype("<f4").tobytes())


def write_ser(path: Path, pixels: np.ndarray, pixel_m: float) -> None:
    """A minimal TIA series of one uint16 image (H, W)."""
    height, width = pixels.shape
    head = struct.pack("<HHHiiii", 0x4949, 0x0197, 0x0220, 0x4122, 0x4152, 1, 1)
    dimension = struct.pack("<iddi", 1, 0.0, 1.0, 0) + struct.pack("<i", 6) + b"Number" + struct.pack("<i", 0)
    offsets_at = len(head) + 8 + 4 + len(dimension)
    data_at = offsets_at + 16
    calibration = struct.pack("<ddi", 0.0, pixel_m, 0) * 2
    body = calibration + struct.pack("<h", 2) + struct.pack("<ii", width, height)
    body += pixels[::-1].astype("<u2").tobytes()
    tag_at = data_at + len(body)
    tag = struct.pack("<hhi", 0x4152, 0, 0)
    text = head + struct.pack("<q", offsets_at) + struct.pack("<i", 1) + dimension
    path.write_bytes(text + struct.pack("<qq", data_at, tag_at) + body + tag)


def write_dm3(path: Path, pixels: np.ndarray, pixel_nm: float) -> None:
    """A minimal DigitalMicrograph 3 file of one float32 image (H, W)."""
    _write_dm(path, pixels, pixel_nm, version=3)


def write_dm4(path: Path, pixels: np.ndarray, pixel_nm: float) -> None:
    """A minimal DigitalMicrograph 4 file: lengths have eight bytes, and every tag tells its own."""
    _write_dm(path, pixels, pixel_nm, version=4)


def _write_dm(path: Path, pixels: np.ndarray, pixel_nm: float, version: int) -> None:
    height, width = pixels.shape
    long = "I" if version == 3 else "Q"

    def entry(kind: int, name: str, content: bytes) -> bytes:
        length = b"" if version == 3 else struct.pack(">Q", len(content))
        return struct.pack(">BH", kind, len(name)) + name.encode() + length + content

    def group(*entries: bytes) -> bytes:
        return struct.pack(f">BB{long}", 0, 0, len(entries)) + b"".join(entries)

    def info(*numbers: int) -> bytes:
        return b"%%%%" + struct.pack(f">{len(numbers) + 1}{long}", len(numbers), *numbers)

    def text(said: str) -> bytes:
        return info(20, 4, len(said)) + said.encode("utf-16-le")

    def number(amount: float) -> bytes:
        return info(6) + struct.pack("<f", amount)

    def whole(amount: int) -> bytes:
        return info(5) + struct.pack("<I", amount)

    array = info(20, 6, pixels.size) + pixels.astype("<f4").tobytes()
    axis = group(entry(21, "Origin", number(0)), entry(21, "Scale", number(pixel_nm)), entry(21, "Units", text("nm")))
    grey = group(entry(21, "Origin", number(0)), entry(21, "Scale", number(1)), entry(21, "Units", text("")))
    calibrations = group(
        entry(20, "Brightness", grey), entry(20, "Dimension", group(entry(20, "", axis), entry(20, "", axis)))
    )
    data = group(
        entry(20, "Calibrations", calibrations),
        entry(21, "Data", array),
        entry(21, "DataType", whole(2)),
        entry(20, "Dimensions", group(entry(21, "", whole(width)), entry(21, "", whole(height)))),
        entry(21, "PixelDepth", whole(4)),
    )
    image = group(
        entry(20, "ImageData", data), entry(20, "ImageTags", group()), entry(21, "Name", text("made")),
    )  # fmt: skip
    root = group(entry(20, "ImageList", group(entry(20, "", image))))
    path.write_bytes(struct.pack(f">I{long}I", version, len(root), 1) + root + bytes(8))


def write_ncem(path: Path, pixels: np.ndarray, pixel_nm: float) -> None:
    """An NCEM .emd of one image (H, W), by rosettasciio's own writer."""
    from rsciio.emd import file_writer

    axes = [
        {"name": name, "units": "nm", "scale": pixel_nm, "offset": 0.0, "size": size, "navigate": False}
        for name, size in zip("yx", pixels.shape, strict=True)
    ]
    metadata = {"General": {"title": "made"}, "Signal": {"signal_type": ""}}
    signal = {"data": pixels, "axes": axes, "metadata": metadata, "original_metadata": {}, "learning_results": {}}
    file_writer(str(path), signal)


def write_velox(path: Path, pixels: np.ndarray, pixel_m: float) -> None:
    """A minimal Velox .emd of one uint16 image (H, W)."""
    import json

    import h5py

    metadata = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "BinaryResult": {
            "PixelSize": {"width": str(pixel_m), "height": str(pixel_m)},
            "Offset": {"x": "0", "y": "0"},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Detector": "HAADF",
        },
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1700000000"}},
        "Detectors": {},
        "Sample": {},
        "Instrument": {},
        "Optics": {},
    }
    words = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("Version", data=np.array([b'{"format": "Velox", "version": "1.0"}'], dtype="S64"))
        name = "0123456789abcdef0123456789abcdef"
        image = file.create_group(f"Data/Image/{name}")
        image.create_dataset("Data", data=pixels.astype(np.uint16)[..., None], chunks=(*pixels.shape, 1))
        image.create_dataset("Metadata", data=np.pad(words, (0, 60000 - len(words)))[:, None])
        file.create_group("Operations/CameraInputOperation")
        file.create_group("Features")
