"""What is called at the named points of a process, so that a test can end it exactly there."""

from __future__ import annotations

from typing import Protocol


class Hooks(Protocol):
    """Called at each point."""

    def reached(self, point: str) -> None:
        """Goes on; a test may raise here, or end the process."""
        ...


class NoHooks:
    """Goes on."""

    def reached(self, point: str) -> None:
        """Nothing happens."""
