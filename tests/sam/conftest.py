from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "supernet"), str(HERE.parent / "micrograph")]  # supernet_world, micrograph_world
