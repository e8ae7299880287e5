"""Damaged files give an image or one clear line; benchmarks/fuzz.py tries thousands of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz

    yield fuzz
    del sys.modules["fuzz"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_files_of_every_format_give_an_image_or_one_line(fuzz, tmp_path):
    verdicts = {path.name: fuzz.judge(path) for path in fuzz.damaged_files(tmp_path, 170, seed=1)}

    assert {name: verdict for name, verdict in verdicts.items() if verdict not in ("image", "refused")} == {}
    assert {"image", "refused"} == set(verdicts.values())


def test_the_undamaged_samples_are_images(fuzz, tmp_path):
    samples = fuzz.samples(tmp_path)

    assert {fuzz.judge(path) for path in samples} == {"image"}
    assert {path.suffix for path in samples} >= {
        ".tif",
        ".png",
        ".jpg",
        ".bmp",
        ".h5",
        ".dm3",
        ".dm4",
        ".emd",
        ".mrc",
        ".ser",
    }
