"""The README and the pages of docs/: their commands run, their links lead somewhere, their figures agree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quatrain.workflows import __main__ as command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(
    r"<!-- (run|run with: [^>]+|not run: [^>]+) -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = [(match[1], match[2], match[3]) for match in BLOCK.finditer(README)]
MARKS = {f"{language}: {text.splitlines()[0].strip()}": mark for mark, language, text in BLOCKS}
DRY = [
    [*(word for word in shlex.split(line, comments=True)[1:] if word != "--dry-run"), "--dry-run"]
    for mark, language, text in BLOCKS
    if language == "bash" and mark == "run with: --dry-run"
    for line in text.splitlines()
]
REAL = [
    [*shlex.split(line, comments=True)[1:], *shlex.split(mark.partition(":")[2])]
    for mark, language, text in BLOCKS
    if language == "bash" and mark.startswith("run") and mark != "run with: --dry-run"
    for line in text.splitlines()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the commands of the README that take under a minute ran, and the files that they name."""
    folder = tmp_path_factory.mktemp("readme")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in REAL:
        argv = [sys.executable, "-m", "quatrain.workflows", *words]
        done = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
    (image,) = folder.glob("runs/boost-*/images/*/image.png")
    shutil.copy(image, folder / "image.png")
    for name in ("my_images", "my_micrographs"):
        (folder / name).mkdir()
        shutil.copy(image, folder / name / "a.png")
        shutil.copy(image.with_name("truth.png"), folder / name / "a_truth.png")
    return folder


def test_every_block_of_the_readme_says_whether_it_is_run():
    assert len(BLOCKS) == len(FENCE.findall(README))
    assert not [title for title, mark in MARKS.items() if mark.startswith("not run") and len(mark.split()) < 4]


@pytest.mark.slow
def test_the_short_commands_of_the_readme_leave_a_report(place):
    assert len(REAL) >= 2
    assert [path.parent.name.partition("-")[0] for path in place.glob("runs/*/report.html")] == ["boost"]


@pytest.mark.slow
def test_the_python_of_the_readme_prints_its_result(place):
    (code,) = [text for mark, language, text in BLOCKS if language == "python" and mark == "run"]
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ materials, \d+ masks removed \(256, 256\)\n", done.stdout)
    assert len(code.splitlines()) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("words", DRY, ids=" ".join)
def test_the_long_commands_of_the_readme_can_be_planned(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)

    assert command.main(words) == 0
    assert "time: about " in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf8")):
        target = "".join(target)
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf8")), target


def anchors(text):
    """The names to which a link may lead: headings as GitHub spells them, and explicit ids."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return names | set(re.findall(r'<a id="([^"]+)"', text))


def section(text, anchor):
    """The part of a page below one heading, up to the next heading of its level or above."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("#") and anchor in anchors(line))
    level = len(lines[start].split()[0])
    stop = (at for at in range(start + 1, len(lines)) if re.match(rf"#{{1,{level}}} ", lines[at]))
    return "\n".join(lines[start : next(stop, len(lines))])


def numbers(text):
    """The numbers of a text, without a zero before the point."""
    return {found.lstrip("0") for found in re.findall(r"(?<![\w.])\d*\.?\d+", text)}


def rows():
    """The rows of the README's table of results, each with the heading of results.md that it names."""
    table = README.partition("## Results")[2]
    return re.findall(r"^\|([^|]+\|[^|]+\|[^|]+)\| \[[^]]+\]\(docs/results\.md#([^)]+)\) \|$", table, re.MULTILINE)


def test_the_table_of_the_readme_quotes_only_figures_of_the_results_page():
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf8")

    assert len(rows()) == 9
    for row, anchor in rows():
        assert numbers(row) <= numbers(section(results, anchor)), (row, anchor)


def test_the_pictures_are_small_and_each_is_shown():
    pictures = list((ROOT / "docs" / "images").iterdir())

    assert {path.name for path in pictures} == set(re.findall(r'src="docs/images/([^"]+)"', README))
    assert max(path.stat().st_size for path in pictures) <= 150_000
