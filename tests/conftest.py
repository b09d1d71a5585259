"""How Hypothesis searches: no deadline for one example, since a slow example on a busy machine is not a failing one.

`make test` tries the same examples each time, so that a red run is the change's doing; `make fuzz` looks for new ones.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
