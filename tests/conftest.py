from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=30)  # a busy machine is no failure
settings.load_profile("steady")

# a shell that starts the tests in the background, or nohup, lets them ignore these, and children would too
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
