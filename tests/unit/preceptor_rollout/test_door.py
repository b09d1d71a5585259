"""What the door's process carries."""

from __future__ import annotations

import subprocess
import sys

HEAVY = "{'torch', 'transformers'} & {name.partition('.')[0] for name in sys.modules}"


def test_the_door_has_no_torch_in_it():
    code = f"import preceptor_rollout.app, preceptor_rollout.rest, sys; print(sorted({HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
