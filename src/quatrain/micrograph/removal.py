"""Removal by geometry (SAM-I-Am): drops duplicate masks, compound parents and fragments, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.micrograph.config import RemovalConfig
from quatrain.micrograph.masks import Mask, Nesting, covered, nesting, union_area
from quatrain.sam.automatic.nms import suppress


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """Why one mask was removed."""

    index: int
    """Index of the mask in the list of raw masks."""
    rule: str
    """The rule, one of quatrain.micrograph.config.RULES."""
    value: float
    """The measured IoU or share."""
    threshold: float
    """The threshold that it was compared with."""
    partner: int | None = None
    """Index of the duplicate, the parent or the largest child; None if the rule looks at one mask alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spared:
    """A rule that was skipped because it would have removed a whole phase."""

    rule: str
    masks: int
    """Masks that the rule would have removed."""
    share: float
    """Share of the image that these masks cover together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """The kept masks, and why the others were removed."""

    kept: tuple[Mask, ...]
    removed: tuple[Removed, ...]
    after: tuple[tuple[str, tuple[Mask, ...]], ...]
    """Each applied rule, in order, with the masks that it kept."""
    spared: tuple[Spared, ...] = ()
    """The rules that the guard skipped because they would have removed a whole phase."""


@dataclass
class _Scene:
    """The remaining masks and their nesting."""

    masks: list[Mask]
    config: RemovalConfig
    nested: Nesting | None = None

    @property
    def image_px(self) -> int:
        height, width = self.masks[0].hw
        return height * width

    def pairs(self) -> Nesting:
        """Return the nested pairs, computed once for all rules that do not change the masks' pixels."""
        if self.nested is None:
            self.nested = nesting(self.masks, min(self.config.duplicate_iou, self.config.child_inside))
        return self.nested

    def children(self) -> dict[int, list[int]]:
        """Return the children of every parent, by index."""
        pairs, children = self.pairs(), dict[int, list[int]]()
        is_child = pairs.inside >= self.config.child_inside
        for larger, smaller in zip(pairs.larger[is_child].tolist(), pairs.smaller[is_child].tolist(), strict=True):
            if self.masks[smaller].area < self.masks[larger].area:
                children.setdefault(larger, []).append(smaller)
        return children

    def without(self, places: Sequence[int]) -> _Scene:
        """Return the scene without the masks at these indices."""
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
    """Apply the rules of `config` in their order to the masks of one image."""
    config = config or RemovalConfig()
    scene, removed, after = _Scene([mask for mask in masks if mask.area], config), [], []
    spared: list[Spared] = []
    removed += [Removed(index=m.index, rule="islands", value=0, threshold=1) for m in masks if not m.area]
    for rule in config.order:
        if not scene.masks:
            break
        if rule == "islands":
            scene = _Scene([_without_islands(mask, config) for mask in scene.masks], config)
        else:
            found = _FINDERS[rule](scene)
            if rule in _GUARDED and (phase := _phase(scene, rule, found)):
                spared.append(phase)
                found = {}
            removed += found.values()
            scene = scene.without(list(found))
        after.append((rule, tuple(scene.masks)))
    return Removal(kept=tuple(scene.masks), removed=tuple(removed), after=tuple(after), spared=tuple(spared))


def _phase(scene: _Scene, rule: str, found: Reasons) -> Spared | None:
    """Return why a rule is skipped: the masks that it would remove are so many and so large that they are a phase."""
    if not found or len(found) < scene.config.phase_masks:
        return None
    share = union_area([scene.masks[place] for place in found]) / scene.image_px
    return Spared(rule=rule, masks=len(found), share=share) if share > scene.config.phase_share else None


def _without_islands(mask: Mask, config: RemovalConfig) -> Mask:
    rle, smallest_px = mask.rle, max(config.island_px, config.island_share * mask.area)
    clean = rle.without_islands(smallest_px, diagonal=False).without_holes(*mask.hw, smallest_px, at_border=False)
    return mask if clean is rle else mask.with_counts(clean.compressed(*mask.hw))


Reasons = dict[int, Removed]
"""Indices of the masks to remove, each with the reason."""


def _duplicates(scene: _Scene) -> Reasons:
    """Remove the worse of two masks with a high IoU (greedy NMS by predicted IoU x stability)."""
    threshold, pairs = scene.config.duplicate_iou, scene.pairs()
    ious: dict[int, dict[int, float]] = {}
    same = pairs.iou >= threshold
    for one, other, iou in zip(
        pairs.larger[same].tolist(), pairs.smaller[same].tolist(), pairs.iou[same].tolist(), strict=True
    ):
        ious.setdefault(one, {})[other] = ious.setdefault(other, {})[one] = iou
    suppressed = suppress([mask.score for mask in scene.masks], lambda place: ious.get(place, {}))
    return {
        worse: _because(scene, worse, "duplicates", ious[better][worse], threshold, better)
        for worse, better in suppressed.items()
    }


def _whole_image(scene: _Scene) -> Reasons:
    """Remove masks of nearly the whole image; the best one is kept if all others are tiny."""
    threshold = scene.config.whole_image
    shares = {place: mask.area / scene.image_px for place, mask in enumerate(scene.masks)}
    whole = [place for place, share in shares.items() if share > threshold]
    if all(share > threshold or share < scene.config.island_image_share for share in shares.values()):
        whole = sorted(whole, key=lambda place: (-scene.masks[place].score, place))[1:]
    return {place: _because(scene, place, "whole-image", shares[place], threshold) for place in whole}


def _compound_parents(scene: _Scene) -> Reasons:
    """Remove masks that their children cover, from the largest down; removed children do not count."""
    threshold, children = scene.config.parent_covered, scene.children()
    found: Reasons = {}
    for parent in sorted(children, key=lambda place: (-scene.masks[place].area, place)):
        inside = sorted((c for c in children[parent] if c not in found), key=lambda c: -scene.masks[c].area)
        if sum(scene.masks[child].area for child in inside) <= threshold * scene.masks[parent].area:
            continue
        share = covered([scene.masks[child] for child in inside], scene.masks[parent])
        if share > threshold:
            found[parent] = _because(scene, parent, "compound-parents", share, threshold, inside[0])
    return found


def _tiny_children(scene: _Scene) -> Reasons:
    """Remove children that are far smaller than their smallest parent."""
    threshold = scene.config.tiny_child
    found: Reasons = {}
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


def _island_masks(scene: _Scene) -> Reasons:
    """Remove tiny masks without a parent."""
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


_FINDERS: dict[str, Callable[[_Scene], Reasons]] = {
    "duplicates": _duplicates,
    "whole-image": _whole_image,
    "compound-parents": _compound_parents,
    "tiny-children": _tiny_children,
    "island-masks": _island_masks,
}
_GUARDED = ("tiny-children", "island-masks")
"""Rules that may remove a whole phase of small particles."""
