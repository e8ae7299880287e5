"""GraphSAGE with mean aggregation (Hamilton et al. 2017) and GAT (Velickovic et al. 2018) over sampled blocks.

V input vertices of a block, F features, C classes, B vertices of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from quatrain.graph.config import TrainConfig
from quatrain.graph.distdgl.import_dgl import dgl


class Network(nn.Module):
    """A convolution a block; between two of them a non-linearity and dropout."""

    def __init__(self, convolutions: Sequence[nn.Module], activation: Any, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, blocks: Sequence[Any], features_VF: Tensor) -> Tensor:
        """Return the scores of the batch's vertices, (B, C)."""
        hidden = features_VF
        for index, (convolution, block) in enumerate(zip(self.convolutions, blocks, strict=True)):
            last = index == len(self.convolutions) - 1
            hidden = convolution(block, hidden)
            if hidden.dim() == 3:  # heads: mixed at the end, side by side before it
                hidden = hidden.mean(dim=1) if last else hidden.flatten(1)
            if not last:
                hidden = self.dropout(self.activation(hidden))
        return hidden


def build_network(config: TrainConfig, features: int, classes: int) -> Network:
    """Return an untrained network; its weights come from torch's global generator."""
    return Network(
        _gat(config, features, classes) if config.model == "gat" else _sage(config, features, classes),
        F.elu if config.model == "gat" else F.relu,
        config.dropout,
    )


def _sage(config: TrainConfig, features: int, classes: int) -> list[nn.Module]:
    widths = [features, *[config.hidden] * (len(config.fanout) - 1), classes]
    return [dgl.nn.SAGEConv(a, b, "mean") for a, b in itertools.pairwise(widths)]


def _gat(config: TrainConfig, features: int, classes: int) -> list[nn.Module]:
    layers, wide = len(config.fanout), config.hidden * config.heads
    return [
        dgl.nn.GATConv(
            features if layer == 0 else wide,
            classes if layer == layers - 1 else config.hidden,
            config.heads,
            allow_zero_in_degree=True,  # an isolated vertex keeps its bias
        )
        for layer in range(layers)
    ]
