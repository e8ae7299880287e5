from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from quatrain.sam.automatic.upsample import Enlarger, Window


def _stock(logits, side, valid, image):
    """What Sam.postprocess_masks does."""
    network = functional.interpolate(logits[None, None], (side, side), mode="bilinear", align_corners=False)
    return functional.interpolate(network[..., : valid[0], : valid[1]], image, mode="bilinear", align_corners=False)[
        0, 0
    ]


sizes = given(
    low=st.integers(2, 12),
    factor=st.sampled_from([2, 4]),
    rows=st.integers(1, 150),
    columns=st.integers(1, 150),
    seed=st.integers(0, 99),
)


def _world(low, factor, rows, columns, seed):
    side = low * factor
    valid = tuple(max(1, round(side * length / max(rows, columns))) for length in (rows, columns))
    logits = torch.randn(low, low, generator=torch.Generator().manual_seed(seed))
    return logits, side, valid, (rows, columns)


@sizes
def test_enlarged_logits_are_those_of_the_stock_model(low, factor, rows, columns, seed):
    logits, side, valid, image = _world(low, factor, rows, columns, seed)

    ours = Enlarger(low, side, valid, image).enlarge(logits, Window(x=0, y=0, width=columns, height=rows))

    torch.testing.assert_close(ours.T, _stock(logits, side, valid, image), rtol=1e-4, atol=1e-5)


@sizes
def test_no_logit_above_the_threshold_lies_outside_the_window(low, factor, rows, columns, seed):
    logits, side, valid, image = _world(low, factor, rows, columns, seed)
    logits = logits - 1.5
    enlarger = Enlarger(low, side, valid, image)
    stock = _stock(logits, side, valid, image)

    window = enlarger.window(logits, 0.0)

    inside = stock[window.y : window.y + window.height, window.x : window.x + window.width]
    assert (inside > 0).sum() == (stock > 0).sum()
    torch.testing.assert_close(enlarger.enlarge(logits, window).T, inside, rtol=1e-4, atol=1e-5)


def test_the_window_of_a_mask_with_nothing_above_the_threshold_is_empty():
    window = Enlarger(4, 16, (16, 16), (16, 16)).window(torch.full((4, 4), -3.0), -1.0)

    assert window.width == window.height == 0
