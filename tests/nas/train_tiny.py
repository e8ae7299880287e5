"""Start `quatrain.nas.train` on a study of the tiny Sam; KILL_AT=N ends the process by SIGKILL at step N.

KILL_WHILE=reporting ends it after the step's work and before its checkpoint, KILL_WHILE=saving in the middle of
writing that checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "supernet"))

from supernet_world import TINY

from quatrain import checkpoint
from quatrain.nas import train
from quatrain.sam.registry import SHAPES

SHAPES["tiny"] = TINY


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def arrange_death(step, moment):
    append_line, save = train.append_line, checkpoint.torch.save

    def report(path, line):
        append_line(path, line)
        if moment == "reporting" and line["step"] == step:
            killed()

    def half_saved(payload, file):
        save(payload, file)
        if moment == "saving" and payload["step"] == step:
            file.truncate(file.tell() // 2)
            killed()

    train.append_line, checkpoint.torch.save = report, half_saved


if __name__ == "__main__":
    if "KILL_AT" in os.environ:
        arrange_death(int(os.environ["KILL_AT"]), os.environ["KILL_WHILE"])
    sys.exit(train.main())
