"""When a run is in trouble, and when it has learned enough: rules over figures that the learner sees anyway."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from preceptor.recipes.schedules import FROZEN


class AlarmRule(BaseModel):
    """A figure that stays beyond a threshold."""

    model_config = FROZEN

    above: float | None = Field(default=None, allow_inf_nan=False)
    """It is in trouble above this."""

    below: float | None = Field(default=None, allow_inf_nan=False)
    """It is in trouble below this."""

    for_steps: int = Field(default=3, ge=1)
    """So many steps in a row."""

    action: Literal["warn", "stop"] = "warn"
    """warn: an `alarm` event, once until the figure has recovered; stop: the run ends as well."""

    @model_validator(mode="after")
    def _has_one_threshold(self) -> AlarmRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has `above` or `below`, one of them")
        return self

    def is_troubled(self, value: float) -> bool:
        """Whether the figure is beyond the threshold."""
        return value > self.above if self.above is not None else self.below is not None and value < self.below


class Alarms(BaseModel):
    """One rule for each figure; null: none. A figure that the recipe does not produce is not watched."""

    model_config = FROZEN

    length: AlarmRule | None = AlarmRule(above=0.98)
    """Mean response tokens as a share of the longest `horizon` of the step, or `max_response_tokens`."""

    truncated: AlarmRule | None = AlarmRule(above=0.9)
    """Share of the step's rollouts that ended at that limit."""

    repetition: AlarmRule | None = AlarmRule(above=0.5)
    """Share of the 4-grams of a response that it had before, as the mean over the step's rollouts."""

    reverse_kl: AlarmRule | None = AlarmRule(above=10.0)
    """Nats per token between student and teacher."""

    overlap: AlarmRule | None = AlarmRule(below=0.05)
    """Share of the teacher's top tokens that are among the student's."""

    entropy: AlarmRule | None = AlarmRule(below=0.001)
    """Nats per token of the student."""


class EarlyStop(BaseModel):
    """Ends a run whose held-out accuracy does not rise any more."""

    model_config = FROZEN

    evaluations: int = Field(default=5, ge=1)
    """So many in a row without a gain."""

    min_gain: float = Field(default=0.0, ge=0, le=1)
    """A gain is more than this over the best accuracy before."""
