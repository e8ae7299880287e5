"""A self-contained HTML page, the format of every workflow's report."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import ClassVar, Literal

import jinja2

from quatrain.files import write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A key figure at the top of the page, with its change."""

    name: str
    value: str
    change: str = ""
    tone: Literal["", "good", "bad"] = ""
    """Colours the change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure of a table."""

    text: str
    share: float | None = None
    """Length of the bar under the figure, 0 to 1; None draws none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One line of a table."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    marked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DataTable:
    """Rows of figures; the first column holds the rows' names."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart as inline SVG, from `quatrain.report.charts`."""

    kind: ClassVar[str] = "chart"
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryImage:
    """An image as a data URI."""

    uri: str
    alt: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Rows of images under common headings."""

    kind: ClassVar[str] = "gallery"
    columns: tuple[str, ...]
    rows: tuple[tuple[GalleryImage, ...], ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyValues:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A remark, such as why a part is missing."""

    kind: ClassVar[str] = "note"
    text: str


Block = DataTable | Chart | Gallery | KeyValues | Note


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page under its own title."""

    title: str
    lead: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A whole report."""

    title: str
    """The title of the browser tab."""
    kicker: str
    """A small line above the headline."""
    headline: str
    tagline: str = ""
    tiles: tuple[Tile, ...] = ()
    command: str = ""
    """The command that started the run."""
    sections: tuple[Section, ...] = ()
    footer: str = ""


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("quatrain.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(page: Page) -> str:
    """Return the page as HTML that needs no other file, no network and no script; all text is escaped."""
    return _environment().get_template("page.html").render(page=page)


def write(page: Page, path: str | os.PathLike[str]) -> None:
    """Write the page to `path`, atomically."""
    write_text(path, render(page))
