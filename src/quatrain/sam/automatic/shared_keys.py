"""The image side of SAM's two-way transformer without per-point image tensors.

The stock decoder copies the image for each point and projects the whole copy in each attention. A layer changes a
point's image only by adding a mixture of the point's few tokens to each position, and by normalising. So the keys of a
point after l layers are

    K_l[n] = r[n] (X_l[n] + sum_j S_j[n] B_j) + beta_l

X_l (positions x channels) and beta_l are the same for all points. S_j[n] is the attention of position n to the tokens
in layer j, divided by r at that layer. B_j holds the tokens' contributions. r[n] is the product of the normalisations'
factors. A linear map of the keys is the map of X_l, computed once per image, plus the map of the few rows B_j. Scores
need the keys' map only within the channels of a head. The variance in a normalisation is a quadratic form in S.
Nothing is approximated; only the order of the additions differs.

N positions, C channels; Q points, H heads, T tokens, D channels of a head, E = D + 1 (the values of a token and a one,
which carries the biases; the attention of a position over a head's tokens sums to one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The part of the keys after some layers that all points share."""

    image_NC: Tensor
    """X: the image, centred and scaled by the normalisations so far."""
    fixed_C: Tensor
    """beta: the shift of the last normalisation."""
    carriers_HEC: tuple[Tensor, ...] = ()
    """For each layer so far, the map from a head's token values to the keys."""

    def project(self, weight_OC: Tensor, bias_O: Tensor, heads: int, position_NC: Tensor | None = None) -> Projection:
        """Map the keys, plus `position_NC` where given, by a linear layer whose outputs belong to `heads` heads."""
        fixed = self.fixed_C if position_NC is None else position_NC + self.fixed_C
        mapped_NO, shift_NO = self.image_NC @ weight_OC.T, torch.atleast_2d(fixed @ weight_OC.T + bias_O)
        if not self.carriers_HEC:  # before the first layer r is 1, and both terms are one product
            return Projection(image_HND=_by_head(mapped_NO + shift_NO, heads), fixed_HND=None, carriers_HEO=())
        return Projection(
            image_HND=_by_head(mapped_NO, heads),
            fixed_HND=_by_head(shift_NO, heads),
            carriers_HEO=tuple(carrier @ weight_OC.T for carrier in self.carriers_HEC),
        )

    def advance(self, attention: Any, norm: torch.nn.LayerNorm) -> tuple[Spread, Level]:
        """Return the variance terms of the next normalisation, and the level after this image-to-token attention."""
        heads, out = attention.num_heads, attention.out_proj
        said_HDC = out.weight.T.unflatten(0, (heads, -1))
        constant_HEC = ((out.bias + self.fixed_C) / heads).expand(heads, 1, -1)
        carriers = [_centred(carrier) for carrier in (*self.carriers_HEC, torch.cat([said_HDC, constant_HEC], dim=1))]
        image_NC = _centred(self.image_NC)
        spread = Spread(
            square_N=image_NC.square().sum(dim=1),
            cross_HEN=tuple(carrier @ image_NC.T for carrier in carriers),
            carriers_HEC=tuple(carriers),
            eps=norm.eps,
        )
        scaled = tuple(carrier * norm.weight for carrier in carriers)
        return spread, Level(image_NC=image_NC * norm.weight, fixed_C=norm.bias, carriers_HEC=scaled)


def _by_head(map_NO: Tensor, heads: int) -> Tensor:
    apart: Tensor = map_NO.unflatten(1, (heads, -1))
    return apart.transpose(0, 1).contiguous()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """The part of a linear map of a level's keys that all points share."""

    image_HND: Tensor
    fixed_HND: Tensor | None
    """Contribution of positions and biases; N is 1 if it is constant; None if `image_HND` includes it."""
    carriers_HEO: tuple[Tensor, ...]

    def scores(self, token_QHTD: Tensor, keys: Keys) -> Tensor:
        """Return the dot products of every token with every position, head by head, (Q, H, T, N)."""
        score: Tensor = token_QHTD @ self.image_HND.mT
        flat = score.flatten(1, 2)
        for shares, said in zip(keys.shares_QSN, self._said(keys), strict=True):
            flat.baddbmm_((token_QHTD @ said.mT).flatten(1, 2), shares)
        if keys.scale_QN is not None:
            flat.mul_(keys.scale_QN[:, None])
        if self.fixed_HND is not None:
            score += token_QHTD @ self.fixed_HND.mT
        return score

    def gather(self, attention_QHTN: Tensor, keys: Keys) -> Tensor:
        """Return the mean of the mapped keys that every token attends to, (Q, H, T, D).

        `attention_QHTN` sums to one over the positions; it is overwritten.
        """
        if keys.scale_QN is not None:
            attention_QHTN.mul_(keys.scale_QN[:, None, None])
        gathered: Tensor = attention_QHTN @ self.image_HND
        if self.fixed_HND is not None:
            gathered += self.fixed_HND
        for shares, said in zip(keys.shares_QSN, self._said(keys), strict=True):
            gathered += torch.bmm(attention_QHTN.flatten(1, 2), shares.mT).unflatten(1, gathered.shape[1:3]) @ said
        return gathered

    def rows(self, keys: Keys, positions: slice) -> Tensor:
        """Return the mapped keys themselves at some positions, (Q, N, O), of a projection with one head."""
        mapped = self.image_HND[:, positions].repeat(len(keys.values_QHTE[0]), 1, 1)
        for shares, said in zip(keys.shares_QSN, self._said(keys), strict=True):
            mapped.baddbmm_(shares[:, :, positions].mT, said[:, 0])
        if keys.scale_QN is not None:
            mapped.mul_(keys.scale_QN[:, positions, None])
        return mapped if self.fixed_HND is None else mapped.add_(self.fixed_HND)

    def _said(self, keys: Keys) -> list[Tensor]:
        """Return the map of B_j for each layer, by this projection's heads, (Q, H, S, D)."""
        heads = len(self.image_HND)
        said = [(values @ carrier).flatten(1, 2) for values, carrier in self._pairs(keys)]
        return [mapped.unflatten(2, (heads, -1)).transpose(1, 2) for mapped in said]

    def _pairs(self, keys: Keys) -> Sequence[tuple[Tensor, Tensor]]:
        return list(zip(keys.values_QHTE, self.carriers_HEO, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The part of the channel variance before a normalisation that all points share."""

    square_N: Tensor
    """Squared norm of the centred image at every position."""
    cross_HEN: tuple[Tensor, ...]
    """Its products with the carriers."""
    carriers_HEC: tuple[Tensor, ...]
    """The centred carriers."""
    eps: float

    def variance(self, shares_QSN: Sequence[Tensor], values_QHTE: Sequence[Tensor]) -> Tensor:
        """Return the mean square over the channels of X + sum_j S_j B_j, (Q, N)."""
        said = [(v @ c).flatten(1, 2) for v, c in zip(values_QHTE, self.carriers_HEC, strict=True)]
        total = self.square_N.expand(len(said[0]), -1)
        for j, shares in enumerate(shares_QSN):
            product = (values_QHTE[j] @ (2 * self.cross_HEN[j])).flatten(1, 2)
            for i in range(j + 1):
                product.baddbmm_(said[j] @ said[i].mT, shares_QSN[i], alpha=1 if i == j else 2)
            total = total + product.mul_(shares).sum(dim=1)
        return total.clamp(min=0) / self.carriers_HEC[0].shape[-1]


@dataclass(kw_only=True, slots=True)
class Keys:
    """The part of the keys after some layers that belongs to each of Q points."""

    scale_QN: Tensor | None = None
    """r; None means 1 everywhere (before the first layer)."""
    shares_QSN: list[Tensor] = field(default_factory=list)
    """S_j for each layer, S = H T."""
    values_QHTE: list[Tensor] = field(default_factory=list)
    """The values of each layer's tokens with a 1 appended."""

    def of(self, points: slice | Tensor) -> Keys:
        """Return the keys of some points: a view for a slice, a copy for indices."""
        return Keys(
            scale_QN=None if self.scale_QN is None else self.scale_QN[points],
            shares_QSN=[shares[points] for shares in self.shares_QSN],
            values_QHTE=[values[points] for values in self.values_QHTE],
        )

    def absorb(self, attention_QHTN: Tensor, value_QHTD: Tensor, spread: Spread) -> Keys:
        """Return the keys after a layer in which every position attended to the tokens; overwrites `attention_QHTN`."""
        shares = attention_QHTN.flatten(1, 2)
        if self.scale_QN is not None:
            shares.div_(self.scale_QN[:, None])
        every = [*self.shares_QSN, shares]
        values = [*self.values_QHTE, torch.nn.functional.pad(value_QHTD, (0, 1), value=1.0)]
        variance_QN = spread.variance(every, values)
        if self.scale_QN is None:
            scale_QN = (variance_QN + spread.eps).rsqrt()
        else:
            scale_QN = self.scale_QN * (variance_QN * self.scale_QN.square() + spread.eps).rsqrt()
        return Keys(scale_QN=scale_QN, shares_QSN=every, values_QHTE=values)

    def followed(self, parts: Sequence[Keys]) -> Keys:
        """Return the keys after one more layer, whose results for consecutive points are `parts`."""
        return Keys(
            scale_QN=torch.cat([part.scale_QN for part in parts if part.scale_QN is not None]),
            shares_QSN=[*self.shares_QSN, torch.cat([part.shares_QSN[-1] for part in parts])],
            values_QHTE=[*self.values_QHTE, torch.cat([part.values_QHTE[-1] for part in parts])],
        )
