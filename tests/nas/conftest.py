from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent / "supernet"),
    str(HERE.parent / "search"),
]  # supernet_world, report_world, search_worlds


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a search keeps its journal."""
    return tmp_path / "search.jsonl"
