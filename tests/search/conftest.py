from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # laws hold on a busy machine too
settings.load_profile("untimed")

sys.path.insert(0, str(Path(__file__).parent))  # the tests of this folder share search_worlds


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a search keeps its journal."""
    return tmp_path / "search.jsonl"
