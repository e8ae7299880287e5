"""One array of a graph on disk: .npy, a member of an .npz, an HDF5 dataset, or text with any usual separator.

Headers are read without the content. Large arrays are memory maps.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

TEXT = (".csv", ".tsv", ".txt", ".gz")
COMMENTS = ("#", "%")
"""What the leading lines of SNAP's and KONECT's files begin with."""
EXACT = {"f2": 2**11, "f4": 2**24, "f8": 2**53}
"""The largest whole number up to which a floating type holds every one."""


class FeatureTable(Protocol):
    """What numpy arrays, memory maps and HDF5 datasets have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> Any:
        """The type of a value."""

    def __getitem__(self, key: Any) -> Any:
        """Return a slice of rows."""


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a text file is laid out."""

    skipped: int
    """Leading comment lines."""
    separator: str
    """As pandas takes it."""
    names: tuple[str, ...]
    """Names of the columns in lower case; empty without a header."""
    columns: int


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """One array: its file and, for .npz and HDF5, its name in the file."""

    path: Path
    member: str = ""

    @property
    def is_text(self) -> bool:
        """Whether the file is text, compressed or not."""
        return self.path.suffix in TEXT

    def shape(self) -> tuple[int, ...]:
        """Return the shape from the header; text is counted by lines."""
        if self.is_text:
            form = self.form()
            with _opened(self.path) as file:
                lines = sum(1 for line in file if line.strip())
            return lines - form.skipped - bool(form.names), form.columns
        return tuple(self.table().shape)

    def form(self) -> TextForm:
        """Return the layout of a text file from its first lines."""
        with _opened(self.path) as file:
            skipped, lines = 0, list[str]()
            for raw in file:
                line = raw.decode("utf8").strip()
                if line.startswith(COMMENTS) and not lines:
                    skipped += 1
                elif line:
                    lines.append(line)
                if len(lines) == 2:
                    break
        if not lines:
            raise ValueError(f"{self.path.name} is empty")
        separator = next((one for one in (",", "\t", ";") if one in lines[0]), r"\s+")
        fields = [[f.strip(' "') for f in _split(line, separator)] for line in lines]
        named = len(fields) == 2 and any(not _number(a) and _number(b) for a, b in zip(*fields, strict=False))
        return TextForm(skipped, separator, tuple(f.lower() for f in fields[0]) if named else (), len(fields[0]))

    def table(self) -> FeatureTable:
        """Return the array, mapped if the file allows it; text and compressed members are read."""
        if self.is_text:
            return self.read()
        if self.path.suffix == ".npz":
            return mapped(self.path, self.member)
        if self.path.suffix == ".h5":
            return _hdf5(self.path, self.member)
        array: FeatureTable = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array

    def read(self, columns: Sequence[int] | None = None) -> Array:
        """Return the whole array; of text (rows, columns), or some of its columns in their order."""
        if not self.is_text:
            return np.asarray(self.table()[:])
        import pandas as pd

        form = self.form()
        frame = pd.read_csv(
            self.path, sep=form.separator, skiprows=form.skipped, header=0 if form.names else None,
            usecols=None if columns is None else sorted(columns), low_memory=False,
        )  # fmt: skip
        if columns is not None:
            frame = frame[[frame.columns[sorted(columns).index(column)] for column in columns]]
        return np.asarray(frame.to_numpy())


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _split(line: str, separator: str) -> list[str]:
    return line.split() if separator == r"\s+" else line.split(separator)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in {"", "true", "false"}
    return True


def _hdf5(path: Path, member: str) -> FeatureTable:
    import h5py

    file = h5py.File(path, "r")  # open as long as the dataset is in use
    names = [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
    name = member if member in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ValueError(f"{path.name} holds {', '.join(names) or 'no dataset'}; name one dataset {member!r}")
    dataset: FeatureTable = file[name]
    return dataset


def mapped(path: Path, name: str) -> Array:
    """Return an array of an npz file as a memory map; one that is compressed is read into memory."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = header(stream)
            length = stream.tell()
        if member.compress_type != zipfile.ZIP_STORED:
            with archive.open(member) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    if dtype.hasobject:
        raise ValueError(f"{name} of {path.name} holds Python objects; store numbers")
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    offset = member.header_offset + 30 + lengths + length
    return np.memmap(path, dtype, "r", offset, shape, "F" if by_columns else "C")


def whole_numbers(values: Array, what: str, entry: str) -> Ints:
    """Return values as int64; ValueError when one is a fraction, not finite, too large or no number.

    `what` names the array and `entry` one of its elements, as in "labels" and "vertex".
    """
    if values.dtype.kind in "bi":
        return values.astype(np.int64)
    if values.dtype.kind == "u":
        if values.size and int(values.max()) >= 2**63:
            raise ValueError(f"{what} run to {values.max()}; the largest number that fits is 2^63 - 1")
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise ValueError(f"{what} are of the type {values.dtype.name}; give whole numbers")
    for wrong, why in (
        (~np.isfinite(values), "not finite"),
        (values != np.floor(values), "fractions"),
        (np.abs(values) > EXACT.get(values.dtype.str[1:], 2**53), f"too large for {values.dtype.name} to be exact"),
    ):
        if wrong.any():
            first = tuple(int(axis[0]) for axis in np.nonzero(wrong))
            value, row = float(values[first]), first[int(np.argmax(values.shape))]
            raise ValueError(f"{what} are {why} ({value:.6g} of {entry} {row}); give whole numbers")
    return values.astype(np.int64)


def candidates(folder: Path, names: Sequence[str], suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the files of a folder that may hold an array under some names, the first choice first."""
    yield from (path for name in names for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file())
