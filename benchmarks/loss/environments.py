"""Environments of other projects: made once, pinned, never mixed with ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def is_ready(home: Path) -> bool:
    """Whether everything that was pinned is installed there."""
    return (home / ".ready").exists()


def interpreter_of(home: Path, pinned: Sequence[str]) -> Path:
    """Its Python; raises `CalledProcessError` where it cannot be installed."""
    python = home / "bin" / "python"
    if not is_ready(home):
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pinned], check=True)
        (home / ".ready").touch()
    return python
