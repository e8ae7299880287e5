"""How the image readers treat damaged files: each gives an image or one clear line, in bounded time and memory.

    python benchmarks/fuzz.py [--quick] [--count 2000] [--seed 0]

Small valid files of every format are written to a temporary folder, and copies of them are damaged with a seeded
mutator: bytes are changed, numbers are replaced by extreme ones, pieces are cut, repeated and swapped. Each copy is
inspected and read in a process of its own pool, which is ended after 10 s and limited to 2 GB.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from lines import emit
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "micrograph"))

from micrograph_world import write_dm3, write_dm4, write_mrc, write_ncem, write_ser, write_velox

from quatrain.data.decode import UnreadableError, images, read, read_labels
from quatrain.data.sample import to_rgb8

MOST_S, MOST_BYTES = 10, 2 << 30
GREY = np.random.default_rng(0).integers(0, 4000, (24, 32)).astype(np.uint16)
_EXTREME = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 1 << 28)


def _write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=np.stack([GREY, GREY[::-1]]), chunks=(1, 24, 32), compression="gzip")
        file["frames"].attrs.update({"pixel_size": [0.5, 0.6], "unit": "nm"})


def _write_tiffs(folder: Path) -> None:
    eight = (GREY >> 4).astype(np.uint8)
    tifffile.imwrite(folder / "deep.tif", GREY, resolution=(1e6, 1e6), resolutionunit="CENTIMETER", metadata=None)
    tifffile.imwrite(
        folder / "zip.tif", np.stack([GREY] * 3), compression="zlib", tile=(16, 16), photometric="minisblack"
    )
    tifffile.imwrite(
        folder / "imagej.tif", np.stack([eight] * 3), imagej=True, metadata={"unit": "nm"}, resolution=(4, 4)
    )
    tifffile.imwrite(
        folder / "a.ome.tif", GREY, metadata={"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "nm"}
    )
    tags = "[Scan]\r\nPixelWidth=5e-09\r\nPixelHeight=5e-09\r\n[Image]\r\nResolutionX=32\r\nResolutionY=20\r\n"
    tifffile.imwrite(folder / "fei.tif", eight, extratags=[(34682, 2, 0, tags.encode(), True)], metadata=None)
    Image.fromarray(eight).save(folder / "lzw.tif", compression="tiff_lzw")


def samples(folder: Path) -> list[Path]:
    """Write a small valid file of every format and return their paths."""
    eight = (GREY >> 4).astype(np.uint8)
    _write_tiffs(folder)
    _write_hdf5(folder / "stack.h5")
    Image.fromarray(GREY).save(folder / "deep.png")
    Image.fromarray(eight).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([eight] * 3)).save(folder / "colour.jpg")
    Image.fromarray(eight).save(folder / "grey.bmp")
    write_dm3(folder / "a.dm3", GREY, 0.5)
    write_dm4(folder / "a.dm4", GREY, 0.5)
    write_mrc(folder / "a.mrc", np.stack([GREY] * 2), 5.0)
    write_ser(folder / "a.ser", GREY, 2e-10)
    write_velox(folder / "velox.emd", GREY, 2e-10)
    write_ncem(folder / "ncem.emd", GREY, 0.2)
    return sorted(path for path in folder.iterdir() if path.is_file())


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return a damaged copy: one to four changes, most of them near the beginning."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        reach = min(len(data), dice.choice((64, 512, 4096, 1 << 30)))
        place = dice.randrange(max(1, reach))
        kind = dice.randrange(6)
        if kind <= 1:
            data[place : place + 1] = bytes([dice.randrange(256)])
        elif kind == 2:
            word = struct.pack(dice.choice("<>") + "I", dice.choice(_EXTREME))
            data[place : place + 4] = word[: max(0, len(data) - place)]
        elif kind == 3:
            del data[place : None if dice.random() < 0.3 else place + dice.randrange(1, 64)]
        elif kind == 4:
            data[place:place] = data[place : place + dice.randrange(1, 64)]
        else:
            other = dice.randrange(max(1, len(data)))
            data[place : place + 16], data[other : other + 16] = data[other : other + 16], data[place : place + 16]
    return bytes(data)


def damaged_files(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Yield `count` damaged files, of every format in turn, each written just before it is yielded."""
    originals, dice = samples(folder), random.Random(seed)
    contents = {path: path.read_bytes() for path in originals}
    for number in range(count):
        original = originals[number % len(originals)]
        path = folder / f"mutated-{number}-{original.name}"
        path.write_bytes(mutated(contents[original], dice))
        yield path


def judge(path: Path) -> str:
    """Return "image", "refused", or what is wrong with how a file was treated."""
    verdicts = set()
    for reader in (_read_all, read_labels):
        try:
            reader(path)
            verdicts.add("image")
        except UnreadableError as error:
            if "\n" in str(error) or not str(error) or len(str(error)) > 2000:
                return f"not one clear line: {str(error)[:80]!r}"
            verdicts.add("refused")
        except Exception as error:  # noqa: BLE001  anything else is what is looked for
            return f"{type(error).__name__}: {error}"
    return "image" if "image" in verdicts else "refused"


def _read_all(path: Path) -> None:
    for info in images(path)[:3]:
        pixels = read(path, info.key, info.frames - 1).pixels
        try:
            to_rgb8(pixels)
        except ValueError as error:  # such as no finite number
            raise UnreadableError(str(error)) from error


def _limited(connection: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES + _address_space(), resource.RLIM_INFINITY))
    while (path := connection.recv()) is not None:
        connection.send(judge(path))


def _address_space() -> int:
    """Return what the process occupies before it reads anything."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


class _Judge:
    """A process that judges files one after another and is replaced when one of them ends it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_limited, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def __call__(self, path: Path) -> str:
        self.connection.send(path)
        try:
            if self.connection.poll(MOST_S):
                return str(self.connection.recv())
            verdict = f"no answer in {MOST_S} s"
        except EOFError:
            verdict = "the process ended"
        self.process.kill()
        self.process.join()
        self._start()
        return verdict

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()


def run(count: int, seed: int, report: Callable[[Path, str], None]) -> collections.Counter[str]:
    """Return how many of `count` damaged files were images, refused, or treated badly."""
    counts: collections.Counter[str] = collections.Counter()
    judge_file = _Judge()
    with tempfile.TemporaryDirectory() as folder:
        for path in damaged_files(Path(folder), count, seed):
            verdict = judge_file(path)
            counts[verdict if verdict in ("image", "refused") else "bad"] += 1
            report(path, verdict)
            path.unlink()
    judge_file.close()
    return counts


def main() -> None:
    """Print the counts as JSON lines, and every file that was treated badly to the standard error."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="200 files")
    arguments.add_argument("--count", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="a folder for the files that were treated badly")
    given = arguments.parse_args()

    def report(path: Path, verdict: str) -> None:
        if verdict not in ("image", "refused"):
            print(f"{path.name}: {verdict}", file=sys.stderr)
            if given.keep:
                (given.keep / path.name).write_bytes(path.read_bytes())

    began = time.monotonic()
    counts = run(200 if given.quick else given.count, given.seed, report)
    for name in ("image", "refused"):
        emit("fuzz", "all formats", name, [counts[name]], unit="files", goal="", ok=None)
    emit("fuzz", "all formats", "bad", [counts["bad"]], unit="files", goal="0", ok=counts["bad"] == 0)
    emit("fuzz", "all formats", "time", [time.monotonic() - began], unit="s", goal="", ok=None)


if __name__ == "__main__":
    main()
