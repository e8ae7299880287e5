"""One gnn run in a run folder: what its processes share.

gnn.json             configuration and seed
cluster/             see quatrain.graph.distdgl.job
checkpoints/gnn.pt   the training's state after its last epoch
epochs.json          a row an epoch
result.json          what came out
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cattrs

from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.graph.config import GnnConfig

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook(Path, lambda text, _: Path(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class GnnStudy:
    """What a run folder was asked."""

    folder: Path
    config: GnnConfig
    seed: int

    def write(self) -> None:
        """Write gnn.json, atomically."""
        write_json(self.folder / "gnn.json", {"config": self.config, "seed": self.seed})

    @classmethod
    def read(cls, folder: Path) -> GnnStudy:
        """Read gnn.json; UsageError when there is none or it is of another version."""
        try:
            record = read_json(folder / "gnn.json")
            config = _CONVERTER.structure(record["config"], GnnConfig)
            return cls(folder=folder, config=config, seed=int(record["seed"]))
        except (OSError, cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{str(folder)!r} holds no gnn.json of this version: {error}") from error

    @property
    def checkpoint(self) -> Path:
        """The training's state."""
        return self.folder / "checkpoints" / "gnn.pt"
