"""What an earlier run says about the next one: how long responses are, and how long a token takes through all stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preceptor.errors import ConfigurationError
from preceptor.planning.ranges import Range

SHORTER, LONGER = 0.5, 2.0
"""How far responses of another run may be from those of this one; a student's lengths move while it learns."""

FASTER, SLOWER = 0.6, 1.8
CHEAPER, DEARER = 0.6, 1.6


@dataclass(frozen=True, slots=True)
class Asked:
    """What graders were asked for one rollout, on average."""

    calls: float
    prompt_tokens: float
    completion_tokens: float

    def of(self, rollouts: int) -> tuple[Range, Range, Range]:
        """Calls, tokens read and tokens written for so many."""
        around = Range(CHEAPER, DEARER) * rollouts
        return around * self.calls, around * self.prompt_tokens, around * self.completion_tokens


@dataclass(frozen=True, slots=True)
class Observed:
    """Means over an earlier run."""

    response_tokens: float
    seconds_per_token: float  # drawn tokens; drawing, scoring, training and publishing together
    asked: Asked | None = None  # where verdicts were given

    @property
    def response_range(self) -> Range:
        return Range(self.response_tokens * SHORTER, self.response_tokens * LONGER)

    def seconds(self, drawn: Range) -> Range:
        """What drawing so many tokens and everything behind it takes; evaluations come on top."""
        return drawn * Range(self.seconds_per_token * FASTER, self.seconds_per_token * SLOWER)


def observed(events: Sequence[Mapping[str, Any]], run: str) -> Observed:
    """From the `step` events of a run that has some."""
    steps = [event for event in events if event["event"] == "step" and event["tokens_generated"]]
    tokens = sum(step["tokens_generated"] for step in steps)
    rollouts = sum(step["rollouts"] for step in steps)
    if not tokens or not rollouts:
        raise ConfigurationError(f"run {run} has drawn nothing yet", field="like", value=run, hint="name a run with a few steps")
    seconds = sum(sum(step["seconds"].values()) for step in steps)
    return Observed(tokens / rollouts, seconds / tokens, _asked(steps))


def _asked(steps: Sequence[Mapping[str, Any]]) -> Asked | None:
    spent = [step["grading"] for step in steps if step["grading"]]
    verdicts = sum(one["verdicts"] for one in spent)
    if not verdicts:
        return None
    return Asked(*(sum(one[name] for one in spent) / verdicts for name in ("calls", "prompt_tokens", "completion_tokens")))
