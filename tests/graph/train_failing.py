"""A trainer whose fourth step fails; started like quatrain.graph.train."""

from __future__ import annotations

from quatrain.graph import train


class Failing(train.GnnTrainer):
    """Raises on one machine while requests are pending."""

    taken = 0

    def update(self, step):
        Failing.taken += 1
        if Failing.taken == 4 and self.rank == 0:
            raise RuntimeError("the fourth step fails")
        return super().update(step)


if __name__ == "__main__":
    train.GnnTrainer = Failing
    train.main()
