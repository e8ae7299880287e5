"""From `--data` to a checked graph."""

from __future__ import annotations

from pathlib import Path

from quatrain.errors import UsageError
from quatrain.files import fingerprint
from quatrain.graph.config import GnnConfig
from quatrain.graph.dataset import folder, ogb, synthetic
from quatrain.graph.dataset.graph import Graph, check


def open_graph(config: GnnConfig, cache: Path) -> Graph:
    """Return the graph that `config` names, checked; a made one is written under `cache` first.

    Raises
    ------
    UsageError
        When the path holds no graph, or one whose parts do not fit together.
    """
    if config.data.startswith("made:"):
        return check(ogb.read(_made(config, cache)))
    check_there(config)
    path = Path(config.data)
    return check(ogb.read(path) if ogb.is_ogb(path) else folder.read(path))


def check_there(config: GnnConfig) -> None:
    """Raise UsageError when `config` names a folder that is not there; nothing in it is read."""
    if not config.data.startswith("made:") and not Path(config.data).is_dir():
        raise UsageError(f"there is no graph {config.data!r}: give a folder, made:community or made:rmat")


def _made(config: GnnConfig, cache: Path) -> Path:
    kind = config.data.partition(":")[2]
    place = cache / f"{kind}_{fingerprint({'kind': kind, 'made': config.made})}"
    if not (place / "RELEASE_v1.txt").exists():  # written last
        synthetic.make(kind, config.made, place)
    return place
