"""A sub-network of the supernet, and the space of them (SuperSAM, section on the elastic search space)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Subnet:
    """Which encoder blocks run, and how wide their MLPs are.

    A dropped block has width 0, so networks that compute the same are equal, and `key` identifies a network in caches
    and journals.
    """

    widths: tuple[int, ...]
    """Hidden channels of every block's MLP, from the first block to the last; 0 drops the whole block."""

    def __post_init__(self) -> None:
        if not self.widths or any(width < 0 for width in self.widths):
            raise ValueError(f"widths are {self.widths}; give one number of at least 0 per block")

    @property
    def key(self) -> str:
        """The network as text, such as `384-0-256`."""
        return "-".join(map(str, self.widths))

    @property
    def kept(self) -> tuple[int, ...]:
        """The indices of the blocks that run."""
        return tuple(i for i, width in enumerate(self.widths) if width)

    @classmethod
    def parse(cls, key: str) -> Subnet:
        """Return the network of a key; raise ValueError for any other text."""
        try:
            return cls(widths=tuple(map(int, key.split("-"))))
        except ValueError:
            raise ValueError(f"{key!r} is not a sub-network: write one width per block, such as 384-0-256") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The sub-networks that a supernet offers."""

    full: tuple[int, ...]
    """Hidden channels of every block's MLP in the full network."""
    choices: tuple[tuple[int, ...], ...]
    """The widths that each block may take, ascending."""
    removable: tuple[int, ...]
    """Blocks that may be dropped, ascending."""
    drop_probability: tuple[float, ...]
    """Probability that a random network drops each of `removable`."""

    def __post_init__(self) -> None:
        depth = len(self.full)
        if len(self.choices) != depth:
            raise ValueError(f"choices has {len(self.choices)} blocks; the network has {depth}")
        for block, (full, widths) in enumerate(zip(self.full, self.choices, strict=True)):
            if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] > full:
                raise ValueError(f"block {block} may take widths {widths}; give ascending ones from 1 to {full}")
        if list(self.removable) != sorted(set(self.removable)) or not set(self.removable) <= set(range(depth)):
            raise ValueError(f"removable is {self.removable}; give ascending blocks from 0 to {depth - 1}")
        if len(self.removable) == depth:
            raise ValueError("every block is removable; at least one must be kept")
        if len(self.drop_probability) != len(self.removable) or not all(0 <= p <= 1 for p in self.drop_probability):
            raise ValueError(
                f"drop_probability is {self.drop_probability}; give one in [0, 1] for each removable block"
            )

    @property
    def depth(self) -> int:
        """The number of blocks of the full network."""
        return len(self.full)

    def largest(self) -> Subnet:
        """Return the network with every block at its widest choice."""
        return Subnet(widths=tuple(widths[-1] for widths in self.choices))

    def smallest(self) -> Subnet:
        """Return the network without removable blocks and with the narrowest other blocks."""
        return Subnet(widths=tuple(0 if i in self.removable else w[0] for i, w in enumerate(self.choices)))

    def sample(self, rng: np.random.Generator) -> Subnet:
        """Draw a network: drops are independent Bernoulli draws, widths are uniform over the choices."""
        drop = dict(zip(self.removable, self.drop_probability, strict=True))
        widths = [int(rng.choice(choice)) for choice in self.choices]
        dropped = [rng.random() < drop.get(i, 0.0) for i in range(self.depth)]
        return Subnet(widths=tuple(0 if drop_it else w for w, drop_it in zip(widths, dropped, strict=True)))

    def size(self) -> int:
        """Return the number of distinct networks; a dropped block counts once."""
        return math.prod(len(widths) + (i in self.removable) for i, widths in enumerate(self.choices))

    def check(self, subnet: Subnet) -> None:
        """Raise ValueError, naming the first offending block, unless `subnet` belongs to the space."""
        if len(subnet.widths) != self.depth:
            raise ValueError(f"{subnet.key} has {len(subnet.widths)} blocks; the supernet has {self.depth}")
        for block, width in enumerate(subnet.widths):
            if width == 0 and block not in self.removable:
                raise ValueError(f"block {block} cannot be dropped; removable: {list(self.removable)}")
            if width and width not in self.choices[block]:
                raise ValueError(f"block {block} cannot be {width} wide; choices: {list(self.choices[block])}")


def ratio_choices(
    full: int, ratios: Sequence[float] = (1 / 4, 1 / 3, 1 / 2, 3 / 4, 1), multiple: int = 64
) -> tuple[int, ...]:
    """Return widths at `ratios` of `full`, each rounded to `multiple` (at least one) and none above `full`."""
    rounded = {min(full, max(multiple, round(full * ratio / multiple) * multiple)) for ratio in ratios}
    return tuple(sorted(rounded))
