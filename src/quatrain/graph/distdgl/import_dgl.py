"""DGL, imported after the replacement for its compiled part; the other modules import it from here."""

from __future__ import annotations

from quatrain import compat

compat.dgl_graphbolt()

import dgl  # noqa: E402 - after the replacement
import dgl.distributed  # noqa: E402
import dgl.nn  # noqa: E402

__all__ = ["dgl"]
