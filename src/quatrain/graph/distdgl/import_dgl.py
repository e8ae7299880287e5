"""DGL, imported after the stand-in for its compiled part; the other modules take it from here."""

from __future__ import annotations

from quatrain import compat

compat.dgl_graphbolt()

import dgl  # noqa: E402 - after the stand-in
import dgl.distributed  # noqa: E402
import dgl.nn  # noqa: E402

__all__ = ["dgl"]
