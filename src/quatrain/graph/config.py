"""Settings of the gnn workflow, and its presets. Needs neither torch nor DGL, so that planning is fast."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quatrain.errors import unknown
from quatrain.graph.features.policies import PolicySpec, current_name, policies, policy_spec


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Cache of remote features: what it may hold, how many rows, and how its content changes."""

    policy: str = "belady"
    """belady, lfu, presample, static-degree, paper, none, or a policy of another installed package."""
    fraction: float = 0.25
    """Rows of the cache as a share of the halo's vertices (f)."""
    decay: float = 0.995
    """`paper`: factor on the score of a cached row for each step that does not read it (gamma)."""
    interval: int = 32
    """`paper`, `lfu`: steps between two replacements (delta)."""
    window: int | None = None
    """`belady`: steps to look ahead (default 8). `presample`: steps that are counted before the first (default 64)."""
    candidates: Literal["halo", "remote"] | None = None
    """Vertices that may be cached: the halo, as published, or all vertices of other parts. Default: remote for
    `belady`, else halo. `fraction` is always a share of the halo. Sampling of two or more layers reaches remote
    vertices outside the halo."""
    carry: bool | None = None
    """`belady`: also reuse rows of the previous batch, which look-ahead keeps in memory anyway; the cache then need not
    hold what the step before has read. Default: yes. Training must not write to the features."""
    wire: Literal["float32", "float16"] = "float32"
    """float16: features are transferred in half the bytes and LOSE PRECISION (11 of 24 bits are kept); batches then
    differ from those of DistDGL. Each machine holds a second copy of its features. Not with the policy `none`."""
    score_transfer: Literal["paper", "reset"] = "paper"
    """`paper`: first score of an admitted row: its number of misses (published) or 1."""
    alpha_decimals: int | None = None
    """`paper`, quirk: decimals to which the threshold gamma**delta is rounded (the authors' code: 3)."""
    victims: Literal["lowest-score", "id-order"] = "lowest-score"
    """`paper`, quirk: which rows below the threshold are evicted first (the authors' code: id-order)."""
    count_on_eviction: bool = True
    """`paper`, quirk: count the misses of a step that evicts (the authors' code: False)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", policy_spec(self.policy).name)
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must lie between 0 and 1")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}; it must lie between 0 and 1, both excluded")
        if self.interval < (1 if self.spec.uses_interval else 0):
            raise ValueError(f"interval is {self.interval}; {self.policy!r} needs at least 1 step between replacements")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; it must be at least 1 step")
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
        self._check_against_policy()

    def _check_against_policy(self) -> None:
        spec = self.spec
        if self.carry and not spec.carries:
            able = ", ".join(repr(one.name) for one in policies().values() if one.carries)
            raise ValueError(f"carry is True; {spec.name!r} cannot reuse rows of the previous batch: choose {able}")
        if self.wire == "float16" and not spec.caches:
            raise ValueError(f"wire is 'float16'; {spec.name!r} reads features as DistDGL does: choose another policy")
        if self.candidates is not None and self.candidates not in spec.candidates:
            allowed = " or ".join(map(repr, spec.candidates))
            raise ValueError(f"candidates is {self.candidates!r}; {spec.name!r} allows only {allowed}: leave it out")

    @property
    def spec(self) -> PolicySpec:
        """Row of the policy table."""
        return policy_spec(self.policy)

    @property
    def bytes_per_number(self) -> int:
        """Transferred bytes per number of a feature."""
        return 2 if self.wire == "float16" else 4

    @property
    def effective_window(self) -> int:
        """The window as given, else the policy's default, in steps."""
        return self.window or self.spec.window

    @property
    def effective_candidates(self) -> str:
        """The candidates as given, else the policy's default."""
        return self.candidates or self.spec.candidates[0]

    @property
    def effective_carry(self) -> bool:
        """Whether rows of the previous batch are reused: as given, else the policy's default."""
        return self.spec.carries if self.carry is None else self.carry

    def with_policy(self, policy: str) -> CacheConfig:
        """Return the same settings for another policy, without those that it would refuse."""
        spec = policy_spec(policy)
        return replace(
            self,
            policy=spec.name,
            carry=self.carry if spec.carries else None,
            candidates=self.candidates if self.candidates in spec.candidates else None,
            wire=self.wire if spec.caches else "float32",
        )

    def capacity(self, halo_size: int) -> int:
        """Return the rows of the cache beside a halo of `halo_size` vertices: floor(fraction * halo_size)."""
        return int(self.fraction * halo_size) if self.spec.caches else 0


def reference_quirks(*, fraction: float = 0.25, decay: float = 0.995, interval: int = 32) -> CacheConfig:
    """Return the `paper` policy with all quirks of the authors' public code, for comparisons with it."""
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
"""Graphs that the package generates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
    """Size of a synthetic graph (`--data made:community` or `made:rmat`)."""

    vertices: int = 50_000
    """Vertices."""
    degree: float = 10.0
    """Mean number of neighbours per vertex; power-law distributed."""
    features: int = 100
    """Numbers per feature vector."""
    classes: int = 10
    """Number of labels."""
    seed: int = 0
    """Seed of all edges and features, independent of the run's seed."""

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
    """How the graph is partitioned, one part per machine."""

    method: Literal["metis", "random"] = "metis"
    """metis cuts few edges; random is for comparison."""
    folder: Path | None = None
    """Folder of the parts, read or written. Default: a cache beside the run folders."""

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", self.folder.expanduser().absolute())


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Number of training processes, and the ports of their servers."""

    machines: int = 2
    """Parts of the graph. One host can run several."""
    trainers: int = 1
    """Training processes per machine."""
    share_buffer: bool = False
    """One cache for all trainers of a machine instead of one each (not with the policy belady)."""
    port: int = 0
    """Port of the first server; each further machine on the same host uses the next one. 0: any free ports."""

    def __post_init__(self) -> None:
        if self.machines < 1 or self.trainers < 1:
            raise ValueError(f"machines x trainers is {self.machines} x {self.trainers}; both must be at least 1")
        if self.port and not 1024 <= self.port <= 65535 - self.machines:
            raise ValueError(f"port is {self.port}; it must be 0 or lie in [1024, {65535 - self.machines}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Network and training."""

    model: Literal["sage", "gat"] = "sage"
    """GraphSAGE with mean aggregation, or a graph attention network."""
    epochs: int = 10
    """Passes over the training vertices."""
    batch: int = 1000
    """Training vertices per step and trainer."""
    fanout: tuple[int, ...] = (10, 25)
    """Neighbours drawn per vertex: of the input layer first, of the training vertices last."""
    hidden: int = 16
    """Hidden channels."""
    heads: int = 2
    """Attention heads (gat)."""
    dropout: float = 0.5
    """Dropout rate of hidden channels."""
    lr: float = 0.003
    """Learning rate of Adam."""
    sampler: Literal["seeded", "stock"] = "seeded"
    """seeded: the same neighbours in every run, and few bytes per request; stock: DistDGL's own sampler."""
    look_ahead: int = 2
    """Batches prepared while one trains. 0: prepared between training steps on the same thread, as in stock DistDGL."""
    replicate: bool = False
    """Copy all features to each trainer first: the lowest epoch time that any cache can reach, if memory allows."""
    evaluate_every: int = 5
    """Epochs between two evaluations on the validation vertices; 0: never."""
    save_every: int = 1
    """Epochs between two checkpoints, beside those after each evaluation; 0: only those."""
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
    """Distributed training of a graph network, from the graph to the report."""

    data: str = "made:community"
    """made:community, made:rmat, an OGB folder (such as dataset/ogbn_products), or a folder with edges.npy|csv,
    features.npy|h5, labels.npy|csv and splits."""
    split: str | None = None
    """Name of one of several OGB splits, number of a column of masks, or percentages to draw (60/20/20)."""
    split_seed: int = 0
    """Seed of splits that are drawn, apart from the run's own seed."""
    made: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Size of a synthetic graph."""
    undirected: bool = True
    """Add the reverse of each edge."""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    """How the graph is partitioned."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Number of training processes."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Network and training."""
    buffer: CacheConfig = field(default_factory=CacheConfig)
    """Cache of features of other machines' vertices."""
    record_trace: bool = False
    """Record in traces/ what each trainer reads, for `quatrain gnn tune`."""
    compare: tuple[str, ...] = ()
    """Further policies to train with; the report compares them."""

    def __post_init__(self) -> None:
        if self.cluster.share_buffer and not self.buffer.spec.shareable:
            raise ValueError(
                f"share_buffer is set, but the policy {self.buffer.policy!r} knows the steps of one trainer only: "
                "choose 'lfu'"
            )
        object.__setattr__(self, "compare", tuple(map(current_name, self.compare)))
        for policy in self.compare:
            self.with_policy(policy)  # refuses an unknown policy
        kind, made, name = self.data.partition(":")
        if kind != "made":  # workers may run in another folder than the driver
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        elif not made or name not in SYNTHETIC:
            raise ValueError(
                f"data is {self.data!r}; made graphs are {' and '.join(f'made:{one}' for one in SYNTHETIC)}"
            )

    def with_policy(self, policy: str) -> GnnConfig:
        """Return the same training with another policy and nothing to compare."""
        return replace(self, buffer=self.buffer.with_policy(policy), compare=())


def mini() -> GnnConfig:
    """Return settings for about a minute on a laptop: synthetic graph, two machines on one host."""
    return GnnConfig(
        made=SyntheticConfig(vertices=20_000),
        train=TrainConfig(epochs=10, batch=500),
        compare=("none",),
    )


def default() -> GnnConfig:
    """Return settings for real graphs on a cluster."""
    return GnnConfig(
        cluster=ClusterConfig(machines=4, trainers=4),
        train=TrainConfig(epochs=30, batch=1000, hidden=256, lr=0.003),
    )


def paper() -> GnnConfig:
    """Return MassiveGNN's published settings (arXiv 2410.22697)."""
    return GnnConfig(
        cluster=ClusterConfig(machines=4, trainers=4),
        train=TrainConfig(epochs=100, batch=2000, fanout=(10, 25), hidden=16, dropout=0.5, lr=0.003),
        buffer=CacheConfig(policy="paper", fraction=0.25, decay=0.995, interval=32),
    )


PRESETS = {"mini": mini, "default": default, "paper": paper}
"""Presets by name; the first is the default."""
