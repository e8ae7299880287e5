"""Print the table of image formats that docs/data.md shows: `python -m quatrain.data.format_table`."""

from __future__ import annotations

import sys

from quatrain.data.decode import BUILT_IN


def format_table() -> str:
    """Return the table of the built-in readers in Markdown."""
    lines = ["| format | suffixes | what is read | pixel size from | what is refused |", "|---|---|---|---|---|"]
    for reader in BUILT_IN:
        names = " ".join(f"`{suffix}`" for suffix in reader.suffixes)
        lines.append(f"| {reader.name} | {names} | {reader.takes} | {reader.pixel_size_from} | {reader.refuses} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(format_table())
