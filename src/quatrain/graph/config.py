"""Every setting of the gnn workflow, and its presets. Nothing here needs torch or DGL, so that planning is quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quatrain.errors import unknown

POLICIES = ("none", "static-degree", "presample", "paper", "counts", "schedule")
"""What a run may choose from; `quatrain.graph.features.policies` builds them."""
EVICTING = ("paper", "counts")
"""Policies that change the buffer every `interval` steps."""
FORESEEING = ("presample", "schedule")
"""Policies that need to be told accesses in advance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Which remote rows are kept, how many, and how that changes."""

    policy: str = "schedule"
    """schedule, counts, presample, static-degree, paper, or none."""
    fraction: float = 0.25
    """Rows of the buffer as a share of the halo's vertices (f)."""
    decay: float = 0.995
    """`paper`: factor on the score of a buffered row for each step that does not use it (gamma)."""
    interval: int = 32
    """`paper`, `counts`: steps between two changes of the buffer (delta)."""
    window: int | None = None
    """`schedule`: steps known in advance (none given: 8); `presample`: steps that are counted before the first (64)."""
    candidates: Literal["halo", "remote"] | None = None
    """What may be kept: vertices of the halo, as published, or any vertex of another part; none given: what is best
    for the policy, remote for `schedule`, else halo. `fraction` stays one of the halo. Sampling more than one layer
    reaches remote vertices outside the halo."""
    carry: bool | None = None
    """`schedule`: take rows from the batch before as well, which look-ahead keeps in memory anyway, so that the buffer
    need not hold what the step before has read (none given: yes). Whoever trains must not write into the features."""
    wire: Literal["float32", "float16"] = "float32"
    """float16: features travel in half the bytes and LOSE PRECISION (11 of 24 bits stay); batches are then no longer
    bit for bit those of DistDGL. Costs every machine a second copy of its features. Not with the policy `none`."""
    score_transfer: Literal["paper", "reset"] = "paper"
    """`paper`: what a newcomer's score begins with, the accesses that it was counted for (published) or 1."""
    alpha_decimals: int | None = None
    """`paper`, quirk: decimals to which the threshold gamma**delta is rounded (the authors' code: 3)."""
    victims: Literal["lowest-score", "id-order"] = "lowest-score"
    """`paper`, quirk: which rows below the threshold leave first (the authors' code: id-order)."""
    count_on_eviction: bool = True
    """`paper`, quirk: count the misses of a step that evicts (the authors' code: False)."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown("policy", self.policy, POLICIES)
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must lie between 0 and 1")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}; it must lie between 0 and 1, both excluded")
        if self.interval < (1 if self.policy in EVICTING else 0):
            raise ValueError(f"interval is {self.interval}; {self.policy!r} needs at least 1 step between two changes")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; it must be at least 1 step")
        self._suits_the_policy()
        if self.alpha_decimals is not None and self.alpha_decimals < 1:
            raise ValueError(f"alpha_decimals is {self.alpha_decimals}; it must be at least 1, or None for no rounding")
        for name, known in (
            ("candidates", ("halo", "remote", None)),
            ("wire", ("float32", "float16")),
            ("score_transfer", ("paper", "reset")),
            ("victims", ("lowest-score", "id-order")),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), [word for word in known if word])

    def _suits_the_policy(self) -> None:
        if self.carry and self.policy != "schedule":
            raise ValueError(f"carry is True; only 'schedule' knows what to leave to it, {self.policy!r} does not")
        if self.wire == "float16" and self.policy == "none":
            raise ValueError("wire is 'float16'; 'none' reads features as DistDGL does: choose another policy")
        if self.candidates == "remote" and self.policy == "static-degree":
            raise ValueError("candidates is 'remote'; 'static-degree' knows degrees of the halo only: leave it out")

    @property
    def number_bytes(self) -> int:
        """Bytes of a number on the wire."""
        return 2 if self.wire == "float16" else 4

    @property
    def known_steps(self) -> int:
        """The window: as given, or the policy's own."""
        return self.window or (8 if self.policy == "schedule" else 64)

    @property
    def among(self) -> Literal["halo", "remote"]:
        """The candidates: as given, or the policy's own."""
        return self.candidates or ("remote" if self.policy == "schedule" else "halo")

    @property
    def carries(self) -> bool:
        """Whether rows of the batch before are taken: as given, or as is best for the policy."""
        return self.policy == "schedule" if self.carry is None else self.carry

    def of_policy(self, policy: str) -> CacheConfig:
        """Return the same for another policy, without what that one would refuse."""
        carry = self.carry if policy == "schedule" else None
        among = self.candidates if policy != "static-degree" else None
        wire = self.wire if policy != "none" else "float32"
        return replace(self, policy=policy, carry=carry, candidates=among, wire=wire)

    def rows(self, halo: int) -> int:
        """Return how many rows the buffer has beside a halo of `halo` vertices: floor(f |H|), none without a policy."""
        return 0 if self.policy == "none" else int(self.fraction * halo)


def reference_quirks(*, fraction: float = 0.25, decay: float = 0.995, interval: int = 32) -> CacheConfig:
    """Return the `paper` policy with every quirk of the authors' public code, for comparisons with it."""
    return CacheConfig(
        policy="paper",
        fraction=fraction,
        decay=decay,
        interval=interval,
        alpha_decimals=3,
        victims="id-order",
        count_on_eviction=False,
    )


SYNTHETIC = ("community", "rmat")
"""Graphs that the package makes itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
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
    threads: int | None = None
    """OpenMP threads per process. Default: cores of the host / its trainers / 2, at least 1."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "hidden", "heads", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
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
    made: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Size of a made graph."""
    undirected: bool = True
    """Let every edge lead both ways."""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    """How the graph is cut."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """How many processes train."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """What is trained."""
    buffer: CacheConfig = field(default_factory=CacheConfig)
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
        elif not made or name not in SYNTHETIC:
            raise ValueError(
                f"data is {self.data!r}; made graphs are {' and '.join(f'made:{one}' for one in SYNTHETIC)}"
            )

    def with_policy(self, policy: str) -> GnnConfig:
        """Return the same training with another policy, and nothing else to compare with."""
        return replace(self, buffer=self.buffer.of_policy(policy), compare=())


def mini() -> GnnConfig:
    """About a minute on a laptop: a made graph of 20,000 vertices on two machines that share the host."""
    return GnnConfig(
        made=SyntheticConfig(vertices=20_000),
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
        buffer=CacheConfig(policy="paper", fraction=0.25, decay=0.995, interval=32),
    )


PRESETS = {"mini": mini, "default": default, "paper": paper}
"""What each preset is called; the first is taken when none is named."""
