from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "tuning")]  # buffer_world, graph_world, test_replay
sys.path.append(str(HERE.parents[1] / "benchmarks"))  # throttled
