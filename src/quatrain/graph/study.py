"""What the processes of a gnn run share in the run folder.

gnn.json             configuration and seed
cluster/             see quatrain.graph.distdgl.job
checkpoints/gnn.pt   state of the training after its last epoch
epochs.json          one row per epoch
result.json          test accuracy and rows of the buffer
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
    """Configuration and seed of a run folder."""

    folder: Path
    config: GnnConfig
    seed: int

    def write(self) -> None:
        """Write gnn.json, atomically."""
        write_json(self.folder / "gnn.json", {"config": self.config, "seed": self.seed})

    @classmethod
    def read(cls, folder: Path) -> GnnStudy:
        """Return the study of a run folder; UsageError when gnn.json is missing or of another version."""
        try:
            record = read_json(folder / "gnn.json")
            config = _CONVERTER.structure(record["config"], GnnConfig)
            return cls(folder=folder, config=config, seed=int(record["seed"]))
        except (OSError, cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{str(folder)!r} holds no gnn.json of this version: {error}") from error

    @property
    def checkpoint(self) -> Path:
        """File of the training's state."""
        return self.folder / "checkpoints" / "gnn.pt"
