"""What holds for the whole run."""

from __future__ import annotations

import signal

pytest_plugins = ("tests.support.servers",)

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: commands under test would
# not hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
