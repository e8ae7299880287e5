"""Replacements for compiled parts of torchvision and DGL that have no build for the installed torch.

Call `torchvision_ops()` and `dgl_graphbolt()` before the first import of torchvision and DGL, in every process,
spawned workers included. Each tries the real import first. Only if it fails, the replacement is installed and logged.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import ModuleType
from typing import Any

import torch

log = logging.getLogger(__name__)

_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_QNMS = "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_registered: list[torch.library.Library] = []


def nms(boxes_N4: torch.Tensor, scores_N: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return the indices of the boxes (x0, y0, x1, y1) that greedy suppression keeps, best score first, int64 (K,).

    A box is suppressed if its intersection over union with a kept box of higher score is above `iou_threshold`.
    """
    order = scores_N.argsort(descending=True, stable=True)
    boxes = boxes_N4[order].double()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if alive[i] and i + 1 < len(order):
            low = torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
            high = torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
            shared = (high - low).clamp(min=0).prod(dim=1)
            alive[i + 1 :] &= ~(shared / (areas[i] + areas[i + 1 :] - shared) > iou_threshold)
    return order[alive]


def torchvision_ops() -> None:
    """Make `import torchvision` work if its compiled operators do not match the installed torch (CPU only)."""
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, OSError) as error:
        log.info("torchvision's operators do not load (%s): nms runs in plain torch", str(error).split("\n")[0])
        _stand_in_for_torchvision()


def _stand_in_for_torchvision() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (_NMS, _QNMS):
        library.define(schema)
    library.impl("nms", nms, "CPU")
    _registered.append(library)  # the operators live as long as the library object
    importlib.import_module("torchvision")
    for name in ("torchvision.extension", "torchvision.ops.boxes"):
        importlib.import_module(name).__dict__["_assert_has_ops"] = _nothing


def _nothing() -> None:
    """Take the place of torchvision's check for its compiled library."""


def dgl_graphbolt() -> None:
    """Make `import dgl` work if GraphBolt has no library for the installed torch; using GraphBolt then raises."""
    if "dgl" in sys.modules:
        return
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL writes a file into the home folder
    try:
        importlib.import_module("dgl")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "dgl":
            raise
        log.info("DGL's GraphBolt does not load (%s): it is left out", str(error).split("\n")[0])
        for name in [name for name in sys.modules if name.startswith("dgl.graphbolt")]:
            del sys.modules[name]
        stand_in = _NoGraphBolt("dgl.graphbolt")
        sys.modules["dgl.graphbolt"] = stand_in
        importlib.import_module("dgl")
        _bind("dgl")


def _bind(package: str) -> None:
    """Set submodules as attributes of their packages after an import that failed halfway.

    They cannot be imported again, because DGL's compiled module is initialised only once.
    """
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            sys.modules[parent].__dict__.setdefault(child, sys.modules[name])


class _NoGraphBolt(ModuleType):
    """The part of GraphBolt that the import of `dgl.distributed` needs; other attributes raise ImportError."""

    __path__: list[str] = []  # noqa: RUF012 - a package, to the import system

    class FusedCSCSamplingGraph:
        """Named by dgl.distributed in type checks only."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"dgl.graphbolt.{name}: GraphBolt has no library for torch {torch.__version__}")
