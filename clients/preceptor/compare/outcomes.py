"""What became of a run, read off its folder: nothing is kept anywhere else, so a comparison can be taken up at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.compare.entries import Entry
from preceptor.learner import RunFolder

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spent:
    """What graders asked of providers over the run, as these counted it."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None  # None: a provider without prices was asked


@dataclass(frozen=True, slots=True)
class Outcome:
    """`failure` says why there are no figures."""

    entry: Entry
    accuracies: Sequence[Point] = ()
    reverse_kl: float | None = None
    tokens: int = 0  # drawn
    seconds: float = 0.0  # in which the learner was at work
    ended: str = ""
    failure: str = ""
    spent: Spent | None = None  # None: nobody graded

    @property
    def before(self) -> float:
        return self.accuracies[0][1]

    @property
    def after(self) -> float:
        return self.accuracies[-1][1]


def outcome_of(entry: Entry, runs: Path) -> Outcome | None:
    """None where the run is not over."""
    folder = RunFolder.of(runs, entry.name)
    if not folder.summary.exists():
        return None
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    steps: list[dict[str, Any]] = [event for event in folder.told() if event["event"] == "step"]
    return Outcome(
        entry,
        sorted((float(step), accuracy) for step, accuracy in summary["accuracies"].items()),
        steps[-1]["reverse_kl"] if steps else None,
        sum(step["tokens_generated"] for step in steps),
        sum(sum(step["seconds"].values()) for step in steps),
        summary["ended"],
        spent=_spent([step["grading"] for step in steps if step["grading"]]),
    )


def _spent(gradings: Sequence[Mapping[str, Any]]) -> Spent | None:
    if not gradings:
        return None
    calls, read, written = (sum(one[name] for one in gradings) for name in ("calls", "prompt_tokens", "completion_tokens"))
    costs: list[float] = [one["cost_usd"] for one in gradings if one.get("cost_usd") is not None]
    return Spent(calls, read, written, sum(costs) if len(costs) == len(gradings) else None)
