"""Outcomes for programs, one JSON object a line, and in sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preceptor import wire
from preceptor.error_details import error_body
from preceptor.errors import PreceptorError
from preceptor.grade_view.asking import Outcome
from preceptor.types import Verdict


def json_line(outcome: Outcome) -> dict[str, Any]:
    """Where the record stood, its own name if it has one, and its verdict or error as in the replies of `/v1/grade`."""
    record, graded = outcome.record, outcome.graded
    named = {} if record.id is None else {"id": record.id}
    if isinstance(graded, PreceptorError):
        return {"source": record.source, **named, "error": error_body(graded)}
    return {"source": record.source, **named, "verdict": wire.verdict_body(graded)}


def failed(outcomes: Sequence[Outcome]) -> int:
    """How many have an error instead of a verdict."""
    return sum(isinstance(one.graded, PreceptorError) for one in outcomes)


def summary(outcomes: Sequence[Outcome]) -> str:
    """All of it in one line: rewards, what has none, and what was spent."""
    verdicts = [one.graded for one in outcomes if isinstance(one.graded, Verdict)]
    rewards = [one.reward for one in verdicts if one.reward is not None]
    told = [f"{len(rewards)} of {len(outcomes)} have a reward"]
    if rewards:
        told.append(f"mean {sum(rewards) / len(rewards):.4g}")
    if missing := len(verdicts) - len(rewards):
        told.append(f"{missing} without one")
    if errors := failed(outcomes):
        told.append(f"{errors} not graded")
    costs = [one.cost_usd for one in verdicts if one.cost_usd is not None]
    told.append(f"{sum(one.calls for one in verdicts)} calls")
    told.append(f"{sum(one.tokens for one in verdicts)} tokens")
    if costs:
        told.append(f"${sum(costs):.4f}")
    return ", ".join(told)
