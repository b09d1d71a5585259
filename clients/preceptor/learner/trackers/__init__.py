"""Where a run's figures go beside `events.jsonl`, which is always written: trackers that others made."""

from preceptor.learner.trackers.protocol import Run, Tracker, scalars_of
from preceptor.learner.trackers.registry import TRACKERS, open_tracker, tracking

__all__ = ["TRACKERS", "Run", "Tracker", "open_tracker", "scalars_of", "tracking"]
