from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from quatrain.supernet.mask_iou import TrueMasks


def at_full_size(logits, masks, valid_hw):
    """IoU as it reads: enlarge, cut the padding off, count."""
    height, width = valid_hw
    large = functional.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=False) > 0
    large, truth = large[..., :height, :width], masks[:, None, :height, :width]
    return (large & truth).sum(dim=(2, 3)) / (large | truth).sum(dim=(2, 3)).clamp(min=1)


def truth(objects, side, valid_hw, generator):
    masks = torch.rand(objects, side, side, generator=generator) > 0.5
    masks[:, valid_hw[0] :] = False
    masks[:, :, valid_hw[1] :] = False
    return masks


sizes = st.tuples(
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 2, 5, 8]),
    st.sampled_from([2, 4, 6, 14]),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
)


@given(sizes, st.integers(0, 10**6), st.sampled_from(["noise", "blobs", "above", "below", "zero"]))
def test_counts_equal_those_of_masks_drawn_at_full_size(size, seed, kind):
    objects, candidates, low, factor, high, wide = size
    side = low * factor
    valid_hw = (max(1, round(high * side)), max(1, round(wide * side)))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(objects, candidates, low, low, generator=generator)
    logits = {
        "noise": noise,
        "blobs": functional.avg_pool2d(noise, 3, stride=1, padding=1),
        "above": noise.abs() + 0.1,
        "below": -noise.abs(),
        "zero": torch.zeros_like(noise),
    }[kind]
    masks = truth(objects, side, valid_hw, generator)

    ious = TrueMasks.of(masks, valid_hw, low).ious(logits)

    assert ious.shape == (objects, candidates)
    assert ious.dtype == torch.float32
    assert torch.equal(ious, at_full_size(logits, masks, valid_hw))


def test_a_perfect_mask_scores_one_and_an_empty_one_nothing():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 0:4] = True
    perfect = 2 * masks[:, None, ::2, ::2].float() - 1

    ious = TrueMasks.of(masks, (8, 8), 4).ious(torch.cat([perfect, -torch.ones_like(perfect)], dim=1))

    assert ious.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(("side", "logits_px"), [(9, 3), (10, 4), (32, 2), (8, 8)])
def test_a_factor_that_cannot_be_counted_by_square_is_refused(side, logits_px):
    with pytest.raises(ValueError, match=f"{logits_px} logits a side do not scale to {side} px"):
        TrueMasks.of(torch.ones(1, side, side, dtype=torch.bool), (side, side), logits_px)
