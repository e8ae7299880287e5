"""A trainer that is killed right after its first checkpoint; started like quatrain.graph.train."""

from __future__ import annotations

import os
import signal

from quatrain.graph import train


class Killed(train.GnnTrainer):
    """Ended by SIGKILL, as when memory runs out."""

    def save(self):
        super().save()
        if self.epoch == 1 and self.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train.GnnTrainer = Killed
    train.main()
