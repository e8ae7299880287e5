"""A trainer that first compares rows read by RPC with DistDGL's own pulls; started as quatrain.graph.train is."""

from __future__ import annotations

from functools import partial

import torch

from quatrain.graph import train
from quatrain.graph.distdgl.partition import FEATURES, LABELS
from quatrain.graph.distdgl.remote_features import DistTensorFeatures, float16_features
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.feature_path import own_vertices


def check(graph):
    """Compare features, labels and float16 features of some, single and no vertices, waited for in reverse order."""
    everyone, own = torch.arange(graph.num_nodes()), own_vertices(graph)
    away = everyone[(everyone < own.start) | (everyone >= own.stop)]
    some = torch.randint(0, len(everyone), (50,), generator=torch.Generator().manual_seed(own.start))
    requested = [everyone, away, everyone[own.start : own.stop], away[:1], everyone[own.start : own.start + 1], some]
    client = RpcClient()
    for key in (FEATURES, LABELS):
        tensor, source = graph.ndata[key], DistTensorFeatures(graph.ndata[key], client)
        waits = [source.read_async(ids) for ids in requested]
        for ids, wait in zip(reversed(requested), reversed(waits), strict=True):
            assert torch.equal(wait(), tensor[ids])
        assert source.read(everyone[:0]).shape == (0, *tensor.shape[1:])
    reduced = float16_features(graph, partial(DistTensorFeatures, client=client))
    assert torch.equal(reduced.read(away), graph.ndata[FEATURES][away].half().float())


class Checked(train.GnnTrainer):
    """Checks before it trains."""

    def run(self):
        check(self.graph)
        print("all rows are right", flush=True)
        super().run()


if __name__ == "__main__":
    train.GnnTrainer = Checked
    train.main()
