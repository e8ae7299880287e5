"""How the buffer of remote features is run. Nothing here needs torch or DGL, so that planning is quick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from quatrain.errors import unknown

POLICIES = ("none", "static-degree", "presample", "paper", "counts", "schedule")
"""What a run may choose from; `quatrain.graph.policies` builds them."""
EVICTING = ("paper", "counts")
"""Policies that change the buffer every `interval` steps."""
FORESEEING = ("presample", "schedule")
"""Policies that need to be told accesses in advance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BufferConfig:
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

    def of_policy(self, policy: str) -> BufferConfig:
        """Return the same for another policy, without what that one would refuse."""
        carry = self.carry if policy == "schedule" else None
        among = self.candidates if policy != "static-degree" else None
        wire = self.wire if policy != "none" else "float32"
        return replace(self, policy=policy, carry=carry, candidates=among, wire=wire)

    def rows(self, halo: int) -> int:
        """Return how many rows the buffer has beside a halo of `halo` vertices: floor(f |H|), none without a policy."""
        return 0 if self.policy == "none" else int(self.fraction * halo)


def reference_quirks(*, fraction: float = 0.25, decay: float = 0.995, interval: int = 32) -> BufferConfig:
    """Return the `paper` policy with every quirk of the authors' public code, for comparisons with it."""
    return BufferConfig(
        policy="paper",
        fraction=fraction,
        decay=decay,
        interval=interval,
        alpha_decimals=3,
        victims="id-order",
        count_on_eviction=False,
    )
