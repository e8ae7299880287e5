"""Every setting of the gnn workflow, and its presets. Nothing here needs torch or DGL, so that planning is quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quatrain.graph.settings_buffer import BufferConfig

MADE = ("community", "rmat")
"""Graphs that the package makes itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeConfig:
    """Size of a made graph (`--data made:community` or `made:rmat`)."""

    vertices: int = 50_000
    """Vertices."""
    degree: float = 10.0
    """Mean number of neighbours; power-law distributed over the vertices."""
    features: int = 100
    """Features of a vertex."""
    classes: int = 10
    """Labels."""
    seed: int = 0
    """Every edge and feature follows from it, apart from the run's own seed."""

    def __post_init__(self) -> None:
        if not 10 <= self.vertices < 2**31:
            raise ValueError(f"vertices is {self.vertices}; it must lie in [10, 2^31)")
        if not 1 <= self.degree <= self.vertices / 4:
            raise ValueError(f"degree is {self.degree}; it must lie in [1, vertices / 4]")
        if not 1 <= self.features <= 4096:
            raise ValueError(f"features is {self.features}; it must lie in [1, 4096]")
        if not 2 <= self.classes <= min(1000, self.vertices):
            raise ValueError(f"classes is {self.classes}; it must lie in [2, 1000]")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionConfig:
    """How the graph is cut, one part a machine."""

    method: Literal["metis", "random"] = "metis"
    """metis cuts few edges; random is there to compare with."""
    folder: Path | None = None
    """Where this graph's parts lie, or are put; none given: in a cache beside the run folders."""

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", self.folder.expanduser().absolute())


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """How many processes train, and where their servers listen."""

    machines: int = 2
    """Parts of the graph; on one host as many stand side by side as are asked for."""
    trainers: int = 1
    """Training processes a machine."""
    share_buffer: bool = False
    """One buffer for all trainers of a machine instead of one each (not with the policy schedule)."""
    port: int = 0
    """The first server's port, the next machine on the same host takes the next one; 0: any free ones."""

    def __post_init__(self) -> None:
        if self.machines < 1 or self.trainers < 1:
            raise ValueError(f"machines x trainers is {self.machines} x {self.trainers}; both must be at least 1")
        if self.port and not 1024 <= self.port <= 65535 - self.machines:
            raise ValueError(f"port is {self.port}; it must be 0 or lie in [1024, {65535 - self.machines}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """What is trained, and how."""

    model: Literal["sage", "gat"] = "sage"
    """GraphSAGE with mean aggregation, or a graph attention network."""
    epochs: int = 10
    """Passes over the training vertices."""
    batch: int = 1000
    """Training vertices a step and trainer."""
    fanout: tuple[int, ...] = (10, 25)
    """Neighbours drawn a vertex: of the input layer first, of the training vertices last."""
    hidden: int = 16
    """Channels between the layers."""
    heads: int = 2
    """Attention heads of gat."""
    dropout: float = 0.5
    """Share of hidden channels left out in training."""
    lr: float = 0.003
    """Adam's learning rate."""
    sampler: Literal["seeded", "stock"] = "seeded"
    """seeded draws the same neighbours in every run and sends few bytes; stock is DistDGL's own."""
    look_ahead: int = 2
    """Batches made ready while one trains; 0: in turn with it and on the same thread, as in stock DistDGL."""
    replicate: bool = False
    """Copy all features to every trainer first: the floor that no buffer gets below, if there is the memory."""
    evaluate_every: int = 5
    """Epochs between two looks at the validation vertices; 0 never looks."""
    save_every: int = 1
    """Epochs between two checkpoints, beside those after each look at the validation vertices; 0: only those."""
    threads: int = 1
    """OpenMP threads of a process."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "hidden", "heads", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.fanout or not all(1 <= count <= 255 for count in self.fanout):
            raise ValueError(f"fanout is {self.fanout}; give a number from 1 to 255 for each layer")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it must be positive")
        for name in ("evaluate_every", "save_every", "look_ahead"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class GnnConfig:
    """Distributed training of a graph network, from a graph to a report."""

    data: str = "made:community"
    """made:community, made:rmat, an OGB folder (such as dataset/ogbn_products), or a folder with edges.npy|csv,
    features.npy|h5, labels.npy|csv and splits."""
    made: MadeConfig = field(default_factory=MadeConfig)
    """Size of a made graph."""
    undirected: bool = True
    """Let every edge lead both ways."""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    """How the graph is cut."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """How many processes train."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """What is trained."""
    buffer: BufferConfig = field(default_factory=BufferConfig)
    """Which features of other machines' vertices are kept."""
    record_trace: bool = False
    """Write down in traces/ what every trainer reads, for `quatrain gnn tune`."""
    compare: tuple[str, ...] = ()
    """Policies that are trained with as well, for the report to set them side by side."""

    def __post_init__(self) -> None:
        if self.cluster.share_buffer and self.buffer.policy == "schedule":
            raise ValueError("share_buffer is set, but the policy 'schedule' knows one trainer's steps: take 'counts'")
        for policy in self.compare:
            self.with_policy(policy)  # says what is wrong with it
        kind, made, name = self.data.partition(":")
        if kind != "made":  # workers may stand in another folder than the driver
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        elif not made or name not in MADE:
            raise ValueError(f"data is {self.data!r}; made graphs are {' and '.join('made:' + one for one in MADE)}")

    def with_policy(self, policy: str) -> GnnConfig:
        """Return the same training with another policy, and nothing else to compare with."""
        return replace(self, buffer=self.buffer.of_policy(policy), compare=())


def mini() -> GnnConfig:
    """About a minute on a laptop: a made graph of 20,000 vertices on two machines that share the host."""
    return GnnConfig(
        made=MadeConfig(vertices=20_000),
        train=TrainConfig(epochs=10, batch=500),
        compare=("none",),
    )


def default() -> GnnConfig:
    """The canonical method for real graphs on a cluster."""
    return GnnConfig(
        cluster=ClusterConfig(machines=4, trainers=4),
        train=TrainConfig(epochs=30, batch=1000, hidden=256, lr=0.003),
    )


def paper() -> GnnConfig:
    """MassiveGNN's public settings (arXiv 2410.22697), one by one."""
    return GnnConfig(
        cluster=ClusterConfig(machines=4, trainers=4),
        train=TrainConfig(epochs=100, batch=2000, fanout=(10, 25), hidden=16, dropout=0.5, lr=0.003),
        buffer=BufferConfig(policy="paper", fraction=0.25, decay=0.995, interval=32),
    )


PRESETS = {"mini": mini, "default": default, "paper": paper}
"""What each preset is called; the first is taken when none is named."""
