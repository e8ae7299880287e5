"""The settings of the autotune workflow and its presets. Nothing here needs torch, so planning is quick."""

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
    """The folder of a nas or autotune run, or its checkpoints/supernet.pt; by default a small supernet is
    trained first, on synthetic images."""
    max_params: str | None = None
    """Most parameters of the encoder, such as 40M or 60% of the full one; 70% without any limit."""
    max_macs: str | None = None
    """Most multiply-accumulates per image, such as 200G or 60%."""
    max_latency_ms: float | None = None
    """Most milliseconds of the encoder per image, measured on a worker."""
    objective: Literal["miou_oracle", "miou_chosen"] = "miou_oracle"
    """The score to maximise: mIoU of the best of three masks, or of the mask with the highest predicted IoU."""
    data: str | None = None
    """Images with truth instead of those of the supernet's training, as for `quatrain nas --data`."""
    images: int = 96
    """Most validation images per network."""
    evaluations: int = 300
    """Networks to propose."""
    engine: str = "additive"
    """Their engine: additive, opentuner (the paper's), optuna-tpe, optuna-nsga2, evolution or random."""
    eta: int = 1
    """Successive halving: the best 1/eta of the networks continue with eta times the images; 1 measures all networks on
    all images. Halving pays if networks differ by more than images do, which is rare in a trained supernet."""
    first_images: int = 8
    """Fewest images of the first rung of the halving."""
    in_order: bool = False
    """Pass results to the engine in the order of the proposals: the search repeats exactly, but workers wait."""
    random_in_bucket: int = 8
    """Random networks per size that are measured beside the found ones, as the random baseline."""
    finetune_steps: int = 0
    """Steps of training the found network alone at the end."""
    onnx: bool = False
    """Also write the found network's encoder and decoder as ONNX, checked against torch."""
    train_steps: int = 120
    """Training steps of the small supernet without --supernet."""

    def __post_init__(self) -> None:
        # workers may run in another folder than the driver, so paths become absolute here
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
        """Return the limits of the search: those given, or 70 % of the parameters without any."""
        unlimited = (self.max_params, self.max_macs, self.max_latency_ms) == (None, None, None)
        return Bounds.parse(
            sam,
            max_params="70%" if unlimited else self.max_params,
            max_macs=self.max_macs,
            max_latency_ms=self.max_latency_ms,
            latency=latency,
        )

    def training(self) -> NasConfig:
        """Return the configuration of the small supernet without --supernet."""
        config = mini_supernet()
        train = replace(config.train, steps=self.train_steps)
        return replace(config, train=train, data=self.data or config.data)


def mini() -> AutotuneConfig:
    """Minutes on a laptop."""
    return AutotuneConfig(evaluations=60, images=48)


def default() -> AutotuneConfig:
    """The evaluations of the authors' search, and some fine-tuning at the end."""
    return AutotuneConfig(finetune_steps=200)


PRESETS = {"mini": mini, "default": default}
"""The presets by name; the first is the default."""
