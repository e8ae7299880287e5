"""Training losses: Dice, focal, cross-entropy and IoU head, with the minimum over SAM's candidate masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from quatrain.supernet.config import LossConfig

# B images, P prompts, M mask tokens, H W pixels of the mask logits


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - Dice over the last two axes; `truth` is the share of object in each pixel, 0 to 1."""
    chance = logits.sigmoid()
    shared = (chance * truth).sum(dim=(-2, -1))
    return 1 - (2 * shared + 1) / (chance.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1)) + 1)


def focal(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss (Lin et al. 2017, equation 5) averaged over the last two axes."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    chance = logits.sigmoid()
    right = chance * truth + (1 - chance) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * (1 - right) ** gamma * entropy).mean(dim=(-2, -1))


def mask_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the intersection over union of logits > 0 with truth > 1/2 over the last two axes, 0 to 1."""
    mask, object_ = logits > 0, truth > 0.5
    shared = (mask & object_).sum(dim=(-2, -1))
    return shared / (mask | object_).sum(dim=(-2, -1)).clamp(min=1)


def sam_loss(logits_BPMHW: Tensor, iou_BPM: Tensor, truth_BPHW: Tensor, config: LossConfig) -> Tensor:
    """Return the scalar loss of one batch.

    The single-mask token (the first) is always supervised. Of the three candidates the one with the least loss is, as
    in SAM for ambiguous prompts (Segment Anything, section 3), and with weight `others` all three.
    """
    logits = logits_BPMHW[:, :, :1] if config.single_mask_only else logits_BPMHW
    truth = truth_BPHW[:, :, None].expand_as(logits)
    parts = config.dice * dice(logits, truth)
    if config.focal:
        parts = parts + config.focal * focal(logits, truth)
    if config.entropy:
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        parts = parts + config.entropy * entropy.mean(dim=(-2, -1))
    loss = parts[..., 0].mean()
    if not config.single_mask_only:
        candidates = parts[..., 1:]
        loss = loss + (1 - config.others) * candidates.amin(dim=-1).mean() + config.others * candidates.mean()
    if config.iou:
        with torch.no_grad():
            reached = mask_iou(logits, truth)
        loss = loss + config.iou * functional.mse_loss(iou_BPM[:, :, : logits.shape[2]].float(), reached)
    return loss


def distillation(logits_BPMHW: Tensor, teacher_BPMHW: Tensor, config: LossConfig) -> Tensor:
    """Return the loss of the masks against the teacher's, whose sigmoid is the soft truth; a scalar."""
    wanted = teacher_BPMHW.sigmoid()
    tokens = slice(0, 1) if config.single_mask_only else slice(None)
    logits, wanted = logits_BPMHW[:, :, tokens], wanted[:, :, tokens]
    return dice(logits, wanted).mean() + functional.binary_cross_entropy_with_logits(logits, wanted)
