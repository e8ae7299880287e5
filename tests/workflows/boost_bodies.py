"""Bodies of boost tasks that tell how often a model was loaded, or die; workers import them from here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from quatrain.files import append_line
from quatrain.micrograph import proposals, stages


def counted(folder, config, items, seed):
    """Boost a chunk and note, under the worker's process number, how often it has loaded a model until now."""
    outcomes = stages.process(str(folder), config, items, seed)
    loads = proposals.load_model.cache_info().misses
    append_line(Path(folder) / "loads" / f"{os.getpid()}.jsonl", {"loads": loads, "images": len(items)})
    return outcomes


def killed_once(folder, config, items, seed):
    """Boost a chunk, but die after its first image the first time that any chunk comes here."""
    try:
        (Path(folder) / "killed").touch(exist_ok=False)
    except FileExistsError:
        return stages.process(str(folder), config, items, seed)
    stages.process(str(folder), config, items[:1], seed)
    return os.kill(os.getpid(), signal.SIGKILL)


def poisoned(folder, config, items, seed):
    """Boost a chunk image by image, and die of the one that is called `poison`."""
    outcomes = []
    for item in items:
        if item.name == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        outcomes += stages.process(str(folder), config, [item], seed)
    return outcomes
