"""Alarms and the early end: pure rules over what the events of a run say, so that a learner that resumes counts the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preceptor.learner.plan import RunPlan
from preceptor.recipes import AlarmRule, Alarms, EarlyStop

FIGURES = {"truncated": "truncation_rate", "reverse_kl": "reverse_kl", "overlap": "topk_overlap", "entropy": "student_entropy"}
"""Name of an alarm -> the student's metric that it watches; `length` and `repetition` are worked out here."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A figure has been beyond its threshold for as many steps as its rule says."""

    name: str
    value: float
    rule: AlarmRule

    @property
    def sentence(self) -> str:
        """For people."""
        side, bound = ("above", self.rule.above) if self.rule.above is not None else ("below", self.rule.below)
        return f"{self.name} is {self.value:.4g}, {side} {bound:g} for {self.rule.for_steps} steps"


@dataclass(slots=True)
class AlarmBoard:
    """Counts, for each figure, the steps in a row in which it was in trouble."""

    rules: dict[str, AlarmRule]
    _troubled: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, alarms: Alarms) -> AlarmBoard:
        """Of a recipe's rules."""
        named = ((name, getattr(alarms, name)) for name in Alarms.model_fields)
        return cls({name: rule for name, rule in named if rule is not None})

    def take(self, figures: Mapping[str, float]) -> list[Alarm]:
        """The alarms that this step sets off: each once, until its figure has recovered."""
        fired: list[Alarm] = []
        for name, rule in self.rules.items():
            if name not in figures:
                continue
            count = self._troubled.get(name, 0) + 1 if rule.is_troubled(figures[name]) else 0
            self._troubled[name] = count
            if count == rule.for_steps:
                fired.append(Alarm(name, figures[name], rule))
        return fired


def figures_of(plan: RunPlan, event: Mapping[str, Any]) -> dict[str, float]:
    """What alarms watch, of one `step` event."""
    metrics: Mapping[str, float | None] = event["metrics"]
    found = {name: value for name, metric in FIGURES.items() if (value := metrics.get(metric)) is not None}
    if (tokens := metrics.get("mean_response_tokens")) is not None:
        found["length"] = tokens / max(slot.source.longest_at(event["step"] - 1) for slot in plan.slots)
    if (repetition := event.get("repetition")) is not None:
        found["repetition"] = repetition
    return found


def is_plateau(accuracies: Sequence[float], rule: EarlyStop) -> bool:
    """Whether none of the last evaluations was better than the best before it by more than `min_gain`."""
    best, without_gain = -1.0, -1
    for accuracy in accuracies:
        if accuracy > best + rule.min_gain or best < 0:
            best, without_gain = accuracy, 0
        else:
            without_gain += 1
    return without_gain >= rule.evaluations
