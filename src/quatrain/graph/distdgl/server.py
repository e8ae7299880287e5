"""A machine's DistDGL server: `python -m quatrain.graph.distdgl.server RUN_DIR MACHINE`.

It ends when the trainers have disconnected.
"""

from __future__ import annotations

import sys
from pathlib import Path

from quatrain.graph.distdgl.job import Job, join


def main() -> None:
    """Serve the part of one machine."""
    folder, machine = sys.argv[1:]
    join(Job.read(Path(folder)), int(machine), "server")


if __name__ == "__main__":
    main()
