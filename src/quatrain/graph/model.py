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
    """One convolution per block, with a non-linearity and dropout between two of them."""

    def __init__(self, convolutions: Sequence[nn.Module], width: int, activation: Any, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.width = width
        """Columns of a hidden layer's output."""
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, blocks: Sequence[Any], features_VF: Tensor) -> Tensor:
        """Return the scores of the batch's vertices, (B, C)."""
        hidden = features_VF
        for index, block in enumerate(blocks):
            hidden = self.layer(index, block, hidden)
        return hidden

    def layer(self, index: int, block: Any, inputs: Tensor) -> Tensor:
        """Return the output of one layer for a block's destination vertices, float32 (n, width), or (n, C) at last."""
        last = index == len(self.convolutions) - 1
        output: Tensor = self.convolutions[index](block, inputs)
        if output.dim() == 3:  # attention heads: averaged in the last layer, concatenated before it
            output = output.mean(dim=1) if last else output.flatten(1)
        return output if last else self.dropout(self.activation(output))


def build_network(config: TrainConfig, features: int, classes: int) -> Network:
    """Return an untrained network; torch's global generator draws its weights."""
    if config.model == "gat":
        return Network(_gat(config, features, classes), config.hidden * config.heads, F.elu, config.dropout)
    return Network(_sage(config, features, classes), config.hidden, F.relu, config.dropout)


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
