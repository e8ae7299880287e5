"""Removal by geometry (SAM-I-Am): masks that repeat, compose or crumble others go, each with the reason why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.micrograph.config import RemovalConfig
from quatrain.micrograph.masks import Mask, Nesting, covered, nesting


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """Why one mask went."""

    index: int
    """The mask's number in the list that it came from."""
    rule: str
    """The rule, one of quatrain.micrograph.config.RULES."""
    value: float
    """What was measured: an IoU, or a share."""
    threshold: float
    """What it was held against."""
    partner: int | None = None
    """The mask that it repeats or lies in, or its largest child; None where the rule looks at one mask alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """The masks that stay, and why the others went."""

    kept: tuple[Mask, ...]
    removed: tuple[Removed, ...]
    after: tuple[tuple[str, tuple[Mask, ...]], ...]
    """Each rule applied, in order, and the masks that it left."""


@dataclass
class _Scene:
    """The masks that are left, and which lie in which."""

    masks: list[Mask]
    config: RemovalConfig
    nested: Nesting | None = None

    @property
    def image_px(self) -> int:
        height, width = self.masks[0].hw
        return height * width

    def pairs(self) -> Nesting:
        """Return the pairs of masks, found once for all rules that leave the masks' pixels alone."""
        if self.nested is None:
            self.nested = nesting(self.masks, min(self.config.duplicate_iou, self.config.child_inside))
        return self.nested

    def children(self) -> dict[int, list[int]]:
        """Return the places of every parent's children."""
        pairs, children = self.pairs(), dict[int, list[int]]()
        is_child = pairs.inside >= self.config.child_inside
        for larger, smaller in zip(pairs.larger[is_child].tolist(), pairs.smaller[is_child].tolist(), strict=True):
            if self.masks[smaller].area < self.masks[larger].area:
                children.setdefault(larger, []).append(smaller)
        return children

    def without(self, places: Sequence[int]) -> _Scene:
        """Return the scene without the masks at some places."""
        if not places:
            return self
        stays = np.ones(len(self.masks), bool)
        stays[list(places)] = False
        masks = [mask for mask, stay in zip(self.masks, stays, strict=True) if stay]
        if self.nested is None:
            return _Scene(masks, self.config)
        new = np.cumsum(stays) - 1
        pairs = self.nested
        both = stays[pairs.larger] & stays[pairs.smaller]
        kept = Nesting(
            larger=new[pairs.larger[both]],
            smaller=new[pairs.smaller[both]],
            inside=pairs.inside[both],
            iou=pairs.iou[both],
        )
        return _Scene(masks, self.config, kept)


def remove(masks: Sequence[Mask], config: RemovalConfig | None = None) -> Removal:
    """Apply the rules of `config` in its order to the masks of one image."""
    config = config or RemovalConfig()
    scene, removed, after = _Scene([mask for mask in masks if mask.area], config), [], []
    removed += [Removed(index=m.index, rule="islands", value=0, threshold=1) for m in masks if not m.area]
    for rule in config.order:
        if not scene.masks:
            break
        if rule == "islands":
            scene = _Scene([_without_islands(mask, config) for mask in scene.masks], config)
        else:
            gone = _FINDERS[rule](scene)
            removed += gone.values()
            scene = scene.without(list(gone))
        after.append((rule, tuple(scene.masks)))
    return Removal(kept=tuple(scene.masks), removed=tuple(removed), after=tuple(after))


def _without_islands(mask: Mask, config: RemovalConfig) -> Mask:
    rle, smallest_px = mask.rle, max(config.island_px, config.island_share * mask.area)
    clean = rle.without_islands(smallest_px, diagonal=False).without_holes(*mask.hw, smallest_px, at_border=False)
    return mask if clean is rle else mask.with_counts(clean.compressed(*mask.hw))


Found = dict[int, Removed]
"""Places of masks to remove, with the reason."""


def _duplicates(scene: _Scene) -> Found:
    """Of two masks that are nearly one, the better stays (the earlier of equals)."""
    threshold, pairs = scene.config.duplicate_iou, scene.pairs()
    alike: dict[int, dict[int, float]] = {}
    same = pairs.iou >= threshold
    for one, other, iou in zip(
        pairs.larger[same].tolist(), pairs.smaller[same].tolist(), pairs.iou[same].tolist(), strict=True
    ):
        alike.setdefault(one, {})[other] = alike.setdefault(other, {})[one] = iou
    found: Found = {}
    for better in sorted(alike, key=lambda place: (-scene.masks[place].score, place)):
        if better in found:
            continue
        for worse, iou in alike[better].items():
            if worse not in found and _worse(scene.masks, worse, better):
                found[worse] = _because(scene, worse, "duplicates", iou, threshold, better)
    return found


def _worse(masks: Sequence[Mask], one: int, other: int) -> bool:
    return (-masks[one].score, one) > (-masks[other].score, other)


def _whole_image(scene: _Scene) -> Found:
    """A mask of nearly the whole image tells nothing, but the best such mask stays where there is no other of size."""
    threshold = scene.config.whole_image
    shares = {place: mask.area / scene.image_px for place, mask in enumerate(scene.masks)}
    whole = [place for place, share in shares.items() if share > threshold]
    if all(share > threshold or share < scene.config.island_image_share for share in shares.values()):
        whole = sorted(whole, key=lambda place: (-scene.masks[place].score, place))[1:]
    return {place: _because(scene, place, "whole-image", shares[place], threshold) for place in whole}


def _compound_parents(scene: _Scene) -> Found:
    """A mask that its children cover is their sum; from the largest down, children that have gone count no more."""
    threshold, children = scene.config.parent_covered, scene.children()
    found: Found = {}
    for parent in sorted(children, key=lambda place: (-scene.masks[place].area, place)):
        inside = sorted((c for c in children[parent] if c not in found), key=lambda c: -scene.masks[c].area)
        if sum(scene.masks[child].area for child in inside) <= threshold * scene.masks[parent].area:
            continue
        share = covered([scene.masks[child] for child in inside], scene.masks[parent])
        if share > threshold:
            found[parent] = _because(scene, parent, "compound-parents", share, threshold, inside[0])
    return found


def _tiny_children(scene: _Scene) -> Found:
    """A child far smaller than its smallest parent is a speck of that parent's texture."""
    threshold = scene.config.tiny_child
    found: Found = {}
    for child, parent in _smallest_parents(scene).items():
        share = scene.masks[child].area / scene.masks[parent].area
        if share < threshold:
            found[child] = _because(scene, child, "tiny-children", share, threshold, parent)
    return found


def _smallest_parents(scene: _Scene) -> dict[int, int]:
    smallest: dict[int, int] = {}
    children = scene.children()
    for parent in sorted(children, key=lambda place: (-scene.masks[place].area, place)):
        smallest.update(dict.fromkeys(children[parent], parent))
    return smallest


def _island_masks(scene: _Scene) -> Found:
    """A speck that lies in no other mask is noise."""
    threshold, nested = scene.config.island_image_share, _smallest_parents(scene)
    shares = {p: m.area / scene.image_px for p, m in enumerate(scene.masks) if p not in nested}
    return {p: _because(scene, p, "island-masks", s, threshold) for p, s in shares.items() if s < threshold}


def _because(
    scene: _Scene, place: int, rule: str, value: float, threshold: float, partner: int | None = None
) -> Removed:
    return Removed(
        index=scene.masks[place].index,
        rule=rule,
        value=float(value),
        threshold=threshold,
        partner=None if partner is None else scene.masks[partner].index,
    )


_FINDERS: dict[str, Callable[[_Scene], Found]] = {
    "duplicates": _duplicates,
    "whole-image": _whole_image,
    "compound-parents": _compound_parents,
    "tiny-children": _tiny_children,
    "island-masks": _island_masks,
}
