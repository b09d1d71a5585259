"""Trackio: a local dashboard with the calls of Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preceptor.extras import require
from preceptor.learner.trackers.protocol import Run


class Trackio:
    """A `Tracker`. A run that is resumed here goes on there under the same name."""

    def __init__(self, run: Run) -> None:
        self._module: Any = require("trackio", extra="trackio")
        self._module.init(project=run.project, name=run.name, resume="allow", config=dict(run.recipe))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._module.log(dict(figures), step=step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._module.finish()
