from __future__ import annotations

from html.parser import HTMLParser

from quatrain.report.page import (
    Cell,
    Chart,
    DataTable,
    Gallery,
    GalleryImage,
    KeyValues,
    Note,
    Page,
    Section,
    TableRow,
    Tile,
    render,
    write,
)

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
BLOCKS = (
    DataTable(
        columns=("net", "size"),
        rows=(TableRow(name="best", cells=(Cell(text="1.5", share=0.25),), marked=True),),
        caption="t",
    ),
    Chart(svg='<svg viewBox="0 0 1 1"><text>drawn</text></svg>', caption="a chart"),
    Gallery(columns=("image",), rows=((GalleryImage(uri=PIXEL, alt="one", caption="first"),),)),
    KeyValues(items=(("seed", "0"),)),
    Note(text="left out"),
)


def page(**changes: object) -> Page:
    known: dict[str, object] = {"title": "a title", "kicker": "k", "headline": "h", "sections": ()}
    return Page(**(known | changes))


class Outline(HTMLParser):
    """What a reader would see of a page, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, _attributes):
        self.tags.append(tag)
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text.strip())


def test_every_kind_of_block_is_shown_and_every_tag_closed():
    outline = Outline(render(page(sections=(Section(title="parts", lead="of it", blocks=BLOCKS),))))

    assert outline.open == []
    for words in ("parts", "of it", "best", "1.5", "drawn", "a chart", "first", "seed", "left out"):
        assert words in outline.words
    assert {"table", "svg", "img", "dl"} <= set(outline.tags)


def test_text_is_escaped_wherever_it_stands():
    evil = "<script>alert(1)</script>"
    blocks = (
        Note(text=evil),
        KeyValues(items=((evil, evil),)),
        DataTable(columns=(evil,), rows=(TableRow(name=evil, note=evil, cells=(Cell(text=evil),)),), caption=evil),
        Gallery(columns=(evil,), rows=((GalleryImage(uri=PIXEL, alt=f'"{evil}', caption=evil),),), caption=evil),
    )
    tiles = (Tile(name=evil, value=evil, change=evil),)
    section = Section(title=evil, lead=evil, blocks=blocks)

    outline = Outline(
        render(
            page(title=evil, kicker=evil, headline=evil, tagline=evil, command=evil, tiles=tiles, sections=(section,))
        )
    )

    assert "script" not in outline.tags
    assert outline.open == []


def test_a_policy_forbids_scripts_and_every_request():
    text = render(page())

    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_knows_dark_screens_and_paper():
    text = render(page())

    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_a_bar_is_as_long_as_its_share():
    assert "width:25.0%" in render(page(sections=(Section(title="s", blocks=BLOCKS),)))


def test_an_empty_page_has_no_empty_frames():
    outline = Outline(render(page()))

    assert "pre" not in outline.tags
    assert "dl" not in outline.tags


def test_a_page_is_written_as_utf8(tmp_path):
    write(page(headline="± 0.3"), tmp_path / "report.html")

    assert "± 0.3" in (tmp_path / "report.html").read_text(encoding="utf8")
