"""TensorBoard: event files in the run's folder. `tensorboard --logdir runs` shows all runs of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preceptor.extras import require
from preceptor.learner.trackers.protocol import Run

FOLDER = "tensorboard"


class TensorBoard:
    """A `Tracker`. Needs neither TensorFlow nor torch."""

    def __init__(self, run: Run) -> None:
        self._writer: Any = require("tensorboard.summary", extra="tensorboard").Writer(str(run.folder / FOLDER))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()
