"""Named places between two effects, so that a test can stop a learner exactly there."""

from __future__ import annotations

from preceptor.hooks import Hooks, NoHooks

__all__ = ["POINTS", "RARE_POINTS", "Hooks", "NoHooks"]

POINTS = (
    "run opened",
    "weights published",
    "weights loaded",
    "prompts journaled",
    "tasks journaled",
    "tasks opened",
    "rollout received",
    "rollout journaled",
    "rows read",
    "rows journaled",
    "rows deleted",
    "verdict read",
    "verdict journaled",
    "batch journaled",
    "step applied",
    "step told",
    "step journaled",
    "checkpoint written",
    "durable journaled",
    "journal compacted",
)
"""Every point, in the order of a step. Dying at any of them must cost time and nothing else."""

RARE_POINTS = ("rollouts dropped", "rollout skipped", "end journaled", "copies loaded", "rereadings journaled")
"""Points that only some runs reach: where rollouts get too old, where some fail for good, where a run ends early, where the
student's own copies teach it, where a teacher reads finished rollouts."""
