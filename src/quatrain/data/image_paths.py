"""Find image files by the names that annotation programs write: other separators, other folders, another case."""

from __future__ import annotations

import math
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

Parts = tuple[str, ...]

_SAMPLED = 50
"""Names that decide which folder holds the images."""
_WINDOWS = re.compile(r"\\|[A-Za-z]:/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """The files of some names under one folder, and why other names have none."""

    folder: Path
    files: dict[str, str]
    """Path of each file that was found, relative to `folder`, by the name that was asked for."""
    reasons: dict[str, str]


def locate(names: Sequence[str], folders: Sequence[Path]) -> Located | None:
    """Find the files of `names` in the folder that holds most of a sample of them; None if no folder holds any.

    Leading folders that all names share, such as those of another machine, may be missing. Capital letters and the
    composition of accents may differ if one file alone fits. A file that fits two names belongs to neither, unless
    its name is exactly one of them.
    """
    parts = {name: _parts(name) for name in names}
    sample = list(parts.values())[:: math.ceil(len(parts) / _SAMPLED) or 1]
    listings = _Listings()
    options = [(folder, prefix) for prefix in _prefixes(sample) for folder in folders]
    counts = [
        sum(isinstance(listings.find(folder, one, prefix), tuple) for one in sample) for folder, prefix in options
    ]
    if not any(counts):
        return None
    folder, prefix = options[counts.index(max(counts))]
    files, reasons = {}, {}
    for name, one in parts.items():
        found = listings.find(folder, one, prefix)
        if isinstance(found, str):
            reasons[name] = found
        else:
            files[name] = "/".join(found)
    _drop_shared(files, reasons)
    return Located(folder=folder, files=files, reasons=reasons)


def file_name(name: str) -> str:
    """Return the last part of a name, without the folders in front of it."""
    parts = _parts(name)
    return parts[-1] if parts else ""


def folded(name: str) -> str:
    """Return a name in the form in which names are compared: lower case, accents composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _parts(name: str) -> Parts:
    """Return the folders and the file name; the first part is "/" or a drive when the name is absolute."""
    path = PureWindowsPath(name).as_posix() if _WINDOWS.search(name) else name
    return PurePosixPath(posixpath.normpath(path)).parts if path else ()


def _leads_out(parts: Parts) -> bool:
    return not parts or parts[0] in ("/", "//", "..") or parts[0].endswith(":") or "\0" in "".join(parts)


def _prefixes(sample: Sequence[Parts]) -> Iterator[Parts]:
    """Yield the leading folders that may be left out, the fewest first."""
    kinds = Counter(_leads_out(parts) for parts in sample)
    usual = [parts[:-1] for parts in sample if _leads_out(parts) == kinds.most_common(1)[0][0]]
    prefix: Parts = ()
    yield prefix
    for same in zip(*usual, strict=False):
        if len(set(same)) > 1:
            return
        prefix = (*prefix, same[0])
        yield prefix


def _drop_shared(files: dict[str, str], reasons: dict[str, str]) -> None:
    """Take files away from names that share one; a name that is exactly that of the file keeps it."""
    owners: dict[str, list[str]] = {}
    for name, file in files.items():
        owners.setdefault(file, []).append(name)
    for file, shared in owners.items():
        exact = [name for name in shared if "/".join(_parts(name)).endswith(file)]
        for name in shared if len(shared) > 1 else ():
            if exact != [name]:
                other = next(one for one in shared if one != name)
                reasons[name] = f"its file {file!r} also fits {other!r}"
                del files[name]


class _Listings:
    """Names in folders, each folder listed once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: Path, parts: Parts, prefix: Parts) -> Parts | str:
        """Return the path of a file below `folder`, as it is on disk, or the reason why it is not found."""
        rest = parts[len(prefix) :]
        if parts[: len(prefix)] != prefix or _leads_out(rest):
            return "its file name leads out of the folder" if _leads_out(rest) else _missing(folder)
        found: list[str] = []
        for part in rest:
            alike = self._in("/".join([str(folder), *found])).get(folded(part), [])
            if part not in alike and len(alike) > 1:
                return f"several files differ from it only in case: {', '.join(alike)}"
            if not alike:
                return _missing(folder)
            found.append(part if part in alike else alike[0])
        return tuple(found)

    def _in(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                names.setdefault(folded(name), []).append(name)
            self._names[folder] = names
        return self._names[folder]


def _missing(folder: Path) -> str:
    return f"there is no such file in {str(folder)!r}"
