"""A trainer that first holds what comes by mail against DistDGL's own pulls; started as quatrain.graph.train is."""

from __future__ import annotations

from functools import partial

import torch

from quatrain.graph import train
from quatrain.graph.distdgl.partition import FEATURES, LABELS
from quatrain.graph.distdgl.remote_features import DistTensorFeatures, float16_features
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.feature_path import own_vertices


def check(graph):
    """Compare features, labels and halves of some, single and no vertices, collected in the reverse order."""
    everyone, own = torch.arange(graph.num_nodes()), own_vertices(graph)
    away = everyone[(everyone < own.start) | (everyone >= own.stop)]
    some = torch.randint(0, len(everyone), (50,), generator=torch.Generator().manual_seed(own.start))
    asked = [everyone, away, everyone[own.start : own.stop], away[:1], everyone[own.start : own.start + 1], some]
    mail = RpcClient()
    for key in (FEATURES, LABELS):
        tensor, source = graph.ndata[key], DistTensorFeatures(graph.ndata[key], mail)
        ends = [source.ask(vertices) for vertices in asked]
        for vertices, end in zip(reversed(asked), reversed(ends), strict=True):
            assert torch.equal(end(), tensor[vertices])
        assert source.read(everyone[:0]).shape == (0, *tensor.shape[1:])
    halves = float16_features(graph, partial(DistTensorFeatures, mail=mail))
    assert torch.equal(halves.read(away), graph.ndata[FEATURES][away].half().float())


class Checked(train.GnnTrainer):
    """Checks before it trains."""

    def run(self):
        check(self.graph)
        print("all rows are right", flush=True)
        super().run()


if __name__ == "__main__":
    train.GnnTrainer = Checked
    train.main()
