"""IoU of predicted with true masks, exact to the pixel, without enlarging the prediction to full size.

SAM enlarges mask logits bilinearly by a whole even factor r. Between four neighbouring logits of one sign every
enlarged value has that sign, so the whole square between them is counted at once. Only squares that an outline crosses
need their r x r pixels.

Axes: N objects, M candidate masks per object, h w logits, S pixels of a side, K = h + 1 squares of a side. Squares lie
between neighbouring logits. Those at the border lie between a logit and its replicate, half of them in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class TrueMasks:
    """The true masks of an image, counted by square."""

    masks_NSS: Tensor
    """True objects, bool; nothing outside the image."""
    valid_hw: tuple[int, int]
    """Height and width of the image within the square of S pixels."""
    true_NKK: Tensor
    """True pixels in every square, uint8."""
    inside_KK: Tensor
    """Pixels of the image in every square, uint8."""

    @classmethod
    def of(cls, masks_NSS: Tensor, valid_hw: tuple[int, int], logits_px: int) -> TrueMasks:
        """Count masks for logits of `logits_px` a side; raise ValueError unless S is an even multiple of that."""
        side = masks_NSS.shape[-1]
        factor, rest = divmod(side, logits_px)
        if rest or factor % 2 or factor > _MOST:
            raise ValueError(f"{logits_px} logits a side do not scale to {side} px by 2, 4, ... or {_MOST}")
        image = torch.zeros(1, side, side, dtype=torch.bool, device=masks_NSS.device)
        image[:, : valid_hw[0], : valid_hw[1]] = True
        return cls(
            masks_NSS=masks_NSS,
            valid_hw=valid_hw,
            true_NKK=_by_square(masks_NSS, factor),
            inside_KK=_by_square(image, factor)[0],
        )

    @property
    def factor(self) -> int:
        """Pixels along a side between two logits."""
        return self.masks_NSS.shape[-1] // (self.true_NKK.shape[-1] - 1)

    def ious(self, logits_NMhw: Tensor) -> Tensor:
        """Return the IoU of every enlarged candidate (logit > 0) with its object, float32 (N, M)."""
        shared_NM, covered_NM = self._counts(logits_NMhw)
        true_N1 = self.true_NKK.sum(dim=(1, 2))[:, None]
        return shared_NM / (covered_NM + true_N1 - shared_NM).clamp(min=1)

    def _counts(self, logits_NMhw: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many pixels candidates share with their object and how many they cover, int64 (N, M)."""
        padded = functional.pad(logits_NMhw, (1, 1, 1, 1), mode="replicate")
        above = padded > 0
        left, right = above[..., :-1], above[..., 1:]
        either, both = left | right, left & right
        whole = both[..., :-1, :] & both[..., 1:, :]
        crossed = (either[..., :-1, :] | either[..., 1:, :]) & ~whole
        figures = torch.stack([self.true_NKK, self.inside_KK.expand_as(self.true_NKK)], dim=-1)
        # sums of whole numbers below 2^24 are exact in float32
        sums_NM2 = (whole.flatten(2).float() @ figures.flatten(1, 2).float()).long()
        entries = crossed.nonzero()
        pixels_Q2 = self._pixels(padded, entries)
        places = entries[:, 0] * logits_NMhw.shape[1] + entries[:, 1]
        shared, covered = sums_NM2.flatten(0, 1).index_add(0, places, pixels_Q2).view_as(sums_NM2).unbind(-1)
        return shared, covered

    def _pixels(self, padded: Tensor, entries_Q4: Tensor) -> Tensor:
        """Count the pixels above 0 in each square (object, candidate, row, column): the shared and all, (Q, 2)."""
        values_Qrr = _between(padded, entries_Q4, self.factor)
        row_Qr, column_Qr = (
            entries_Q4[:, axis, None] * self.factor + torch.arange(self.factor, device=padded.device) - self.factor // 2
            for axis in (2, 3)
        )
        height, width = self.valid_hw
        in_rows, in_columns = (row_Qr >= 0) & (row_Qr < height), (column_Qr >= 0) & (column_Qr < width)
        above = (values_Qrr > 0) & in_rows[:, :, None] & in_columns[:, None, :]
        rows, columns = row_Qr.clamp(0, height - 1)[:, :, None], column_Qr.clamp(0, width - 1)[:, None, :]
        shared = above & self.masks_NSS[entries_Q4[:, 0, None, None], rows, columns]
        return torch.stack([shared.sum(dim=(1, 2)), above.sum(dim=(1, 2))], dim=1)


_MOST = 14
"""The largest factor: one byte counts the pixels of a square."""


def _by_square(masks_NSS: Tensor, factor: int) -> Tensor:
    """Count pixels by square, uint8 (N, K, K)."""
    half = factor // 2
    padded = functional.pad(masks_NSS.to(torch.uint8), (half, half, half, half))
    split = padded.unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
    counts: Tensor = split.sum(dim=(2, 4), dtype=torch.uint8)
    return counts


def _between(padded: Tensor, entries_Q4: Tensor, factor: int) -> Tensor:
    """Interpolate the r x r pixels of squares, (Q, r, r), rows first."""
    n, m, y, x = entries_Q4.unbind(1)
    share = (torch.arange(factor, device=padded.device, dtype=padded.dtype) + 0.5) / factor
    low, high = (
        padded[n, m, row, x, None] * (1 - share) + padded[n, m, row, x + 1, None] * share for row in (y, y + 1)
    )
    return low[:, None, :] * (1 - share)[:, None] + high[:, None, :] * share[:, None]
