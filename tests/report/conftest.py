from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # laws hold on a busy machine too
settings.load_profile("untimed")
