from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=30)  # a busy machine is no failure
settings.load_profile("steady")
