"""Weights & Biases. Its key and address come from its own variables (WANDB_API_KEY, WANDB_BASE_URL, WANDB_MODE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preceptor.extras import require
from preceptor.learner.trackers.protocol import Run


class WeightsAndBiases:
    """A `Tracker`. A run that is resumed here goes on there under the same id."""

    def __init__(self, run: Run) -> None:
        self._run: Any = require("wandb", extra="wandb").init(
            project=run.project, name=run.name, id=run.name, resume="allow", dir=str(run.folder), config=dict(run.recipe)
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()
