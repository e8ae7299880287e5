"""Accuracy of a network over all trainers: layer-wise inference with every neighbour, every vertex of a split once.

Each layer is computed once for each vertex that the split depends on, by a trainer of the machine that holds the
vertex, as in DGL's own DistSAGE example. Nothing is sampled, so the accuracy depends neither on the number of trainers
nor on the partition. OGB's Evaluator computes the figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from quatrain.graph.dataset.ogb_package import accuracy
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.partition import FEATURES, LABELS
from quatrain.graph.features.source import FeatureSource
from quatrain.graph.model import Network

Ints = npt.NDArray[np.int64]
EDGES_PER_BATCH = 1 << 18
"""In-edges of the vertices that are computed at a time, which bounds the rows of input features."""


class FullNeighbourEvaluation:
    """Accuracy of one network on splits of a distributed graph; all trainers of the job call it at the same time.

    Servers keep one float32 row per vertex for each hidden layer, from the first call to the end of the job.
    """

    def __init__(
        self, graph: Any, model: Network, features: FeatureSource, *, trainer: int, trainers: int, device: torch.device
    ) -> None:
        """Take the graph, the source of all features, and this trainer's number among those of its machine."""
        self._graph, self._model, self._features, self._device = graph, model, features, device
        self._trainer, self._trainers = trainer, trainers
        book = graph.get_partition_book()
        own = book.partid2nids(book.partid)
        self._first, self._last = int(own[0]), int(own[-1]) + 1
        self._hidden: dict[int, Any] = {}

    @torch.no_grad()
    def accuracy(self, splits: Path, name: str) -> float:
        """Return the share of the vertices of a split in a partition's splits.npz that get their own label."""
        with np.load(splits) as stored:
            vertices = stored[name]
        self._model.eval()
        layers = len(self._model.convolutions)
        needed = [self._own(self._mask(vertices))]
        for _ in range(1, layers):
            needed.insert(0, self._own(self._with_neighbours(needed[0])))
        for layer, computed in enumerate(needed[:-1]):
            stored = self._stored(layer).local_partition
            for batch, output in self._outputs(layer, computed):
                stored[batch - self._first] = output
            dist.barrier()
        scores = [output.argmax(1) for _, output in self._outputs(layers - 1, needed[-1])]
        predicted = torch.cat(scores) if scores else torch.empty(0, dtype=torch.int64)
        return self._evaluated(needed[-1], predicted)

    def _mask(self, vertices: Ints | Tensor) -> Tensor:
        """Return a mask of all vertices, uint8 (V,), 1 at `vertices`."""
        mask = torch.zeros(self._graph.num_nodes(), dtype=torch.uint8)
        mask[torch.as_tensor(vertices)] = 1
        return mask

    def _own(self, mask: Tensor) -> Tensor:
        """Return the vertices of a mask that this trainer computes: its share of those of its machine, int64 (n,)."""
        held = mask[self._first : self._last].nonzero().flatten() + self._first
        low, high = (number * len(held) // self._trainers for number in (self._trainer, self._trainer + 1))
        return held[low:high]

    def _with_neighbours(self, vertices: Tensor) -> Tensor:
        """Return the mask of the vertices of all trainers and of their in-neighbours."""
        mask = self._mask(vertices)
        for batch in self._batches(vertices):
            mask[self._block(batch)[0]] = 1
        mask = mask.to(self._device)
        dist.all_reduce(mask, dist.ReduceOp.MAX)
        return mask.cpu()

    def _batches(self, vertices: Tensor) -> Iterator[Tensor]:
        """Yield vertices in groups of about EDGES_PER_BATCH in-edges."""
        edges = self._graph.local_partition.in_degrees(vertices - self._first) + 1
        group = torch.cumsum(edges, 0) // EDGES_PER_BATCH
        yield from vertices.split(torch.unique_consecutive(group, return_counts=True)[1].tolist())

    def _block(self, vertices: Tensor) -> tuple[Tensor, Any]:
        """Return the input vertices and the block of all in-edges of vertices that this machine holds."""
        part, local = self._graph.local_partition, vertices - self._first
        block = dgl.to_block(dgl.in_subgraph(part, local), local, include_dst_in_src=True)
        return part.ndata[dgl.NID][block.srcdata[dgl.NID]], block

    def _outputs(self, layer: int, vertices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield groups of the vertices with their outputs of a layer, float32 (n, width)."""
        for batch in self._batches(vertices):
            inputs, block = self._block(batch)
            rows = self._hidden[layer - 1][inputs] if layer else self._features.read(inputs)
            yield batch, self._model.layer(layer, block.to(self._device), rows.to(self._device)).cpu()

    def _stored(self, layer: int) -> Any:
        """Return the distributed tensor of a hidden layer's outputs, float32 (V, width)."""
        if layer not in self._hidden:
            self._hidden[layer] = dgl.distributed.DistTensor(
                (self._graph.num_nodes(), self._model.width),
                torch.float32,
                f"hidden-{layer}",
                init_func=_zeros,
                part_policy=self._graph.ndata[FEATURES].part_policy,
                persistent=True,
            )
        return self._hidden[layer]

    def _evaluated(self, vertices: Tensor, predicted: Tensor) -> float:
        """Gather all trainers' labels and predictions on the first one; return its figure on all."""
        true = self._graph.ndata[LABELS].local_partition[vertices - self._first]
        pairs: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object((true.numpy(), predicted.numpy()), pairs)
        figure = [accuracy(*map(np.concatenate, zip(*pairs, strict=True)))] if pairs else [None]
        dist.broadcast_object_list(figure)
        return float(figure[0])  # type: ignore[arg-type]  # sent by the first trainer


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the first content of a distributed tensor; DGL sends this function to the servers by name."""
    return torch.zeros(shape, dtype=dtype)
