"""Every setting of the autotune workflow, and its presets. Nothing here needs torch, so that planning is quick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from quatrain.nas.config import NasConfig
from quatrain.nas.config import mini as mini_supernet
from quatrain.sam.registry import SamShape
from quatrain.search.constraints import Bounds, Latency, check_amount
from quatrain.search.engines.registry import check_engine


@dataclass(frozen=True, kw_only=True, slots=True)
class AutotuneConfig:
    """The best sub-network of a supernet within bounds."""

    supernet: Path | None = None
    """The folder of a nas or autotune run, or its checkpoints/supernet.pt; without one a small supernet is trained
    first, on made images."""
    max_params: str | None = None
    """Most parameters of the encoder, such as 40M or 60% of the full one; 70% when no limit at all is given."""
    max_macs: str | None = None
    """Most multiply-accumulates an image, such as 200G or 60%."""
    max_latency_ms: float | None = None
    """Most milliseconds of the encoder an image, measured on a worker."""
    objective: Literal["miou_oracle", "miou_chosen"] = "miou_oracle"
    """What is raised: mIoU of the best of three masks, or of the mask that the network itself chooses."""
    data: str | None = None
    """Images with truth in place of those that the supernet was trained on; what `quatrain nas --data` takes."""
    images: int = 96
    """Validation images that a network is measured on, at most."""
    evaluations: int = 300
    """Networks to propose."""
    engine: str = "additive"
    """What proposes them: additive, opentuner (the paper's), optuna-tpe, optuna-nsga2, evolution or random."""
    eta: int = 1
    """Successive halving: one network in so many goes on to so many times the images; 1 measures all on every image.
    It pays where networks differ by more than images do, which those of a trained supernet often do not."""
    first_images: int = 8
    """Images of the first rung of the halving, at least."""
    in_order: bool = False
    """Tell the engine results in the order of the proposals: the search repeats exactly, but workers wait."""
    random_in_bucket: int = 8
    """Random networks of each size that are measured beside the found ones: what the search adds to luck."""
    finetune_steps: int = 0
    """Steps that the found network is trained by itself at the end."""
    onnx: bool = False
    """Also write the found network's encoder and decoder as ONNX, checked against torch."""
    train_steps: int = 120
    """Steps of the small supernet that is trained when none is given."""

    def __post_init__(self) -> None:
        # workers may stand in another folder than the driver: paths are made absolute here, once
        if self.supernet is not None:
            object.__setattr__(self, "supernet", self.supernet.expanduser().absolute())
        if self.data is not None and self.data.partition(":")[0] != "made":
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        check_engine(self.engine)
        for limit in (self.max_params, self.max_macs):
            check_amount(limit)
        if self.max_latency_ms is not None and not self.max_latency_ms > 0:
            raise ValueError(f"max_latency_ms is {self.max_latency_ms}; it must be positive")
        for name in ("images", "evaluations", "eta", "first_images", "train_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("random_in_bucket", "finetune_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")

    def bounds(self, sam: SamShape, latency: Latency | None = None) -> Bounds:
        """Return the limits for a network: those given, or the default where none is."""
        unlimited = (self.max_params, self.max_macs, self.max_latency_ms) == (None, None, None)
        return Bounds.parse(
            sam,
            max_params="70%" if unlimited else self.max_params,
            max_macs=self.max_macs,
            max_latency_ms=self.max_latency_ms,
            latency=latency,
        )

    def training(self) -> NasConfig:
        """Return how the small supernet is trained when none is given."""
        config = mini_supernet()
        train = replace(config.train, steps=self.train_steps)
        return replace(config, train=train, data=self.data or config.data)


def mini() -> AutotuneConfig:
    """Minutes on a laptop."""
    return AutotuneConfig(evaluations=60, images=48)


def default() -> AutotuneConfig:
    """What the authors' search spends, and a little fine-tuning at the end."""
    return AutotuneConfig(finetune_steps=200)


PRESETS = {"mini": mini, "default": default}
"""What each preset is called; the first is taken when none is named."""
