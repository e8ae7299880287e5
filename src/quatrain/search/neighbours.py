"""Neighbours of a sub-network, repair by shrinking, and enumeration of all networks within bounds."""

from __future__ import annotations

from collections.abc import Iterator

from quatrain.search.constraints import Bounds
from quatrain.seeding import numpy_rng
from quatrain.supernet.space import Space, Subnet


def options(space: Space, block: int) -> tuple[int, ...]:
    """Return the widths that a block may take, ascending; the first is 0 if it may be dropped."""
    return ((0,) if block in space.removable else ()) + space.choices[block]


def smaller(space: Space, subnet: Subnet) -> list[Subnet]:
    """Return the networks one step below: one block narrower, or dropped if it is at its narrowest."""
    return _neighbours(space, subnet, step=-1)


def larger(space: Space, subnet: Subnet) -> list[Subnet]:
    """Return the networks one step above: one block wider, or restored at its narrowest."""
    return _neighbours(space, subnet, step=1)


def _neighbours(space: Space, subnet: Subnet, step: int) -> list[Subnet]:
    found = []
    for block, width in enumerate(subnet.widths):
        choices = options(space, block)
        index = choices.index(width) + step
        if 0 <= index < len(choices):
            widths = (*subnet.widths[:block], choices[index], *subnet.widths[block + 1 :])
            found.append(Subnet(widths=widths))
    return found


def repair(space: Space, bounds: Bounds, subnet: Subnet, seed: int) -> Subnet:
    """Return `subnet` if it keeps the bounds, else a smaller network after random single steps down.

    The steps depend on the seed and the network only, so a proposal is always repaired to the same network. The bounds
    must admit the smallest network of the space.
    """
    if bounds.admits(subnet):
        return subnet
    rng = numpy_rng(seed, "repair", subnet.key)
    while not bounds.admits(subnet):
        steps = smaller(space, subnet)
        subnet = steps[int(rng.integers(len(steps)))]
    return subnet


def within(space: Space, bounds: Bounds) -> Iterator[Subnet]:
    """Yield every network that keeps the bounds, once.

    Sizes grow with every width. So the walk drops a prefix if the smallest completion breaks the bounds, and never runs
    into a dead end.
    """
    smallest = space.smallest().widths

    def grow(prefix: tuple[int, ...]) -> Iterator[Subnet]:
        block = len(prefix)
        if block == space.depth:
            yield Subnet(widths=prefix)
            return
        for width in options(space, block):
            longer = (*prefix, width)
            if bounds.admits(Subnet(widths=longer + smallest[block + 1 :])):
                yield from grow(longer)

    return grow(())
