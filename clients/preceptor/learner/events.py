"""What a run tells while it goes: one JSON object a line in `events.jsonl`, and the same objects to whoever watches.

| event | fields |
|---|---|
| started | run, step (applied so far), steps, recipe, control, resumed |
| evaluation | step, accuracy, correct, asked, samples |
| step | step, loss, reverse_kl, grad_norm, heldout_accuracy, rollouts, tokens, rates, queue_depth, weight_step, grading |
| ... | metrics, seconds, idle_seconds, bottleneck, ages, dropped, reweighted, skipped, repetition, receipts |
| ... | turns, environment_reward: means over rollouts that had an environment |
| skipped | step, prompt, sample, code, message: a rollout that failed for good |
| alarm | step, name, value, sentence, action |
| finished | step, seconds, accuracy, ended |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from preceptor.errors import PreceptorError
from preceptor.learner.ending import Alarm
from preceptor.learner.evaluation import Evaluated
from preceptor.learner.spending import Spending
from preceptor.learner.tally import Tally
from preceptor.types import RolloutId

Event = Mapping[str, Any]
Watch = Callable[[Event], None]
"""Is told of each event, after it is in the file."""

TOLD_OF_ROLLOUTS = ("dropped", "reweighted", "skipped", "repetition", "turns", "environment_reward")
SIDES = ("publish", "generate", "score_wait", "train")


@dataclass(slots=True)
class StepTimes:
    """Seconds of each stage of one step, and what was done in them."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    idle_s: dict[str, float] = field(default_factory=dict[str, float])  # of each lane: nothing that it was allowed to do
    tokens_generated: int = 0
    rows_scored: int = 0
    queue_depth: int = 0

    @property
    def bottleneck(self) -> str:
        """The stage that took longest."""
        return max(SIDES, key=lambda side: self.seconds[side])


class EventLog:
    """`events.jsonl` of a run. A step is told once, also when the learner died between telling and journaling."""

    def __init__(self, path: Path, watch: Watch) -> None:
        self._watch = watch
        told = _read(path)
        self.steps: dict[int, Event] = {event["step"]: event for event in told if event["event"] == "step"}
        self.evaluated: dict[int, float] = {event["step"]: event["accuracy"] for event in told if event["event"] == "evaluation"}
        self._file = path.open("a", encoding="utf-8")

    @property
    def last_accuracy(self) -> float | None:
        """Of the newest evaluation."""
        return self.evaluated[max(self.evaluated)] if self.evaluated else None

    def started(self, **fields: object) -> None:
        """A learner took the run up."""
        self._tell({"event": "started", **fields})

    def evaluation(self, step: int, found: Evaluated) -> None:
        """The student was asked."""
        self.evaluated[step] = found.accuracy
        samples = [
            {"prompt": one.prompt, "answer": one.answer, "response": one.response, "right": one.right} for one in found.samples
        ]
        fields = {"accuracy": found.accuracy, "correct": found.correct, "asked": found.asked, "samples": samples}
        self._tell({"event": "evaluation", "step": step, **fields})

    def step(
        self,
        step: int,
        times: StepTimes,
        metrics: Mapping[str, float],
        tally: Tally,
        spent: Spending | None = None,
        receipts: Sequence[Mapping[str, object]] = (),
    ) -> Event:
        """The student applied a step. What was told of it before stands."""
        if step not in self.steps:
            told = self._step(step, times, metrics, tally)
            self.steps[step] = self._tell({**told, "grading": spent and asdict(spent), "receipts": list(receipts)})
        return self.steps[step]

    def _step(self, step: int, times: StepTimes, metrics: Mapping[str, float], tally: Tally) -> dict[str, object]:
        generated_s = times.seconds["generate"]
        scored_s = generated_s + times.seconds["score_wait"]
        return {
            "event": "step",
            "step": step,
            **{name: metrics.get(name) for name in ("loss", "reverse_kl", "grad_norm")},
            "heldout_accuracy": self.last_accuracy,
            "rollouts": tally.rollouts,
            "tokens_generated": times.tokens_generated,
            "generated_tokens_per_s": _rate(times.tokens_generated, generated_s),
            "rows_scored": times.rows_scored,
            "scored_rows_per_s": _rate(times.rows_scored, scored_s),
            "queue_depth": times.queue_depth,
            "weight_step": tally.weight_step,
            "ages": {"mean": tally.mean_age, "max": tally.max_age},
            **{name: getattr(tally, name) for name in TOLD_OF_ROLLOUTS},
            "seconds": {side: round(took_s, 4) for side, took_s in times.seconds.items()},
            "idle_seconds": {lane: round(idle_s, 4) for lane, idle_s in times.idle_s.items()},
            "bottleneck": times.bottleneck,
            "metrics": dict(metrics),
        }

    def skipped(self, rollout: RolloutId, error: PreceptorError) -> None:
        """A rollout failed for good, and its step goes on without it."""
        place = {"step": rollout.step + 1, "prompt": rollout.prompt, "sample": rollout.sample}
        self._tell({"event": "skipped", **place, "code": str(error.code), "message": error.message})

    def alarm(self, step: int, alarm: Alarm) -> None:
        """A figure is in trouble."""
        told = {"name": alarm.name, "value": alarm.value, "sentence": alarm.sentence, "action": alarm.rule.action}
        self._tell({"event": "alarm", "step": step, **told})

    def finished(self, **fields: object) -> None:
        """Every step is applied and durable."""
        self._tell({"event": "finished", **fields})

    def close(self) -> None:
        self._file.close()

    def _tell(self, event: dict[str, object]) -> Event:
        self._file.write(json.dumps(_plain(event), ensure_ascii=False) + "\n")
        self._file.flush()
        self._watch(event)
        return event


def _read(path: Path) -> list[dict[str, Any]]:
    """Events told before; half a line at the end, from a kill, is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [cast(dict[str, Any], json.loads(line)) for line in whole.splitlines()]


def _rate(count: int, took_s: float) -> float | None:
    return round(count / took_s, 1) if took_s > 0 and count else None


def _plain(value: object) -> object:
    """Without numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in cast(dict[str, object], value).items()}
    if isinstance(value, list):
        return [_plain(one) for one in cast(list[object], value)]
    return value
