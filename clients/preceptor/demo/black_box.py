"""The demo with a teacher behind an API: no weights, no log-probabilities, a score from 0 to 10 for each response.

The teacher service has nothing but the address and the key of a provider. The provider is a stand-in that serves the bundled
teacher; it sees the text of requests alone. The control is the same run with its verdicts dealt to other rollouts of the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preceptor.demo.engines import Engine, rollout_plan
from preceptor.demo.look import Answers
from preceptor.demo.pair import Pair
from preceptor.demo.provider import StandInProvider
from preceptor.demo.runs import DemoRun, answers_of, events_of, plan_of, train
from preceptor.learner import RunFolder, Watch
from preceptor.local.stack import ServicePlan, Stack, build_stack
from preceptor.report import Criterion, DemoReport, RunCurves, Sample

STEPS = 60
PROMPTS, SAMPLES = 16, 8
OVER_START_POINTS = 10.0
OVER_CONTROL_POINTS = 10.0

COSTS_HEADER = ("run", "verdicts", "missing", "calls", "tokens read", "tokens written")

NOTES = (
    "A small model cannot talk about a text, so the stand-in plays the judge: its model answers each prompt by itself, and the "
    "score is the share of the steps of that answer that the response has in place. It never sees an answer key.",
    "A score for a whole response says less than log-probabilities do: expect slower learning than with the weights of the "
    "teacher at hand, and more noise between seeds.",
    "Shuffled verdicts are the same scores on other rollouts of the batch. They do not merely fail to teach, they drive the "
    "student away from its start: mind the gain over the start.",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run asked of the provider, as that counted it."""

    label: str
    verdicts: int
    missing: int
    calls: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def row(self) -> tuple[str, ...]:
        numbers = (self.verdicts, self.missing, self.calls, self.prompt_tokens, self.completion_tokens)
        return (self.label, *(f"{number:,}" for number in numbers))


@dataclass(frozen=True, slots=True)
class BlackBoxResult:
    """Everything a report or a table needs."""

    teacher: Answers
    graded: RunCurves
    shuffled: RunCurves
    costs: Sequence[Cost]
    samples: Sequence[Sample]

    @property
    def criteria(self) -> list[Criterion]:
        """What the demo claims; all of it must hold."""
        gain = 100 * (self.graded.end - self.graded.start)
        over = 100 * (self.graded.end - self.shuffled.end)
        return [
            _at_least("gain over its own start", gain, OVER_START_POINTS),
            _at_least("gain over shuffled verdicts", over, OVER_CONTROL_POINTS),
        ]


@dataclass(frozen=True, slots=True)
class BlackBoxStack:
    """The services, and the provider beside them."""

    stack: Stack
    provider: StandInProvider


def black_box_stack(pair: Pair, folder: Path, runs: Path, engine: Engine = "hf") -> BlackBoxStack:
    """A provider, a teacher service that knows its address and key, a student, and a rollout service on this engine."""
    provider = StandInProvider(pair.teacher, folder)
    teachers = ("--teachers-file", str(provider.write_teachers_file()))
    services = (
        ServicePlan("teacher", "teacher", None, flags=teachers),
        ServicePlan("student", "student", pair.student_model),
        rollout_plan("rollout", engine, pair.student_model),
    )
    stack = build_stack(folder, runs, services)
    return BlackBoxStack(replace(stack, stages=((provider.child,), *stack.stages)), provider)


def black_box_runs(pair: Pair, steps: int) -> tuple[DemoRun, DemoRun]:
    """The run and its control: same weights, same prompts, same seeds, same number of steps."""
    shared = (
        f"schedule.steps={steps}",
        f"optimizer.learning_rate.steps={steps}",
        "schedule.deterministic=false",
        f"schedule.prompts_per_step={PROMPTS}",
        f"sources.rollouts.samples_per_prompt={SAMPLES}",
        "evaluation.prompts=256",
    )
    verbal = pair.recipe("verbal")
    own, end = f"evaluation.every_steps={max(1, steps // 6)}", f"evaluation.every_steps={steps}"
    return (
        DemoRun("graded", "graded", verbal, (*shared, own)),
        DemoRun("shuffled", "verdicts shuffled", verbal, (*shared, end), "permute_scores", "control"),
    )


async def run_black_box(box: BlackBoxStack, pair: Pair, runs: Path, watch: Watch, steps: int = STEPS) -> BlackBoxResult:
    """Needs the stack to be up. Both runs go beside each other through the same services."""
    graded, shuffled = black_box_runs(pair, steps)
    teacher = await box.provider.answers(plan_of(graded).evaluation)
    curves = await asyncio.gather(
        train(graded, box.stack.client(), runs, watch),
        train(shuffled, box.stack.client(), runs, _quiet),
    )
    told = [events_of(RunFolder.of(runs, run.name).events) for run in (graded, shuffled)]
    costs = [cost_of(run.label, events) for run, events in zip((graded, shuffled), told, strict=True)]
    both = [_with_verdicts(*one) for one in zip(curves, told, costs, strict=True)]
    return BlackBoxResult(teacher, both[0], both[1], costs, _samples(told[0], teacher))


def black_box_report(result: BlackBoxResult, *, command: str, when: str, machine: str) -> DemoReport:
    """The page."""
    return DemoReport(
        title="A student, and a teacher behind an API",
        command=command,
        when=when,
        machine=machine,
        teacher_accuracy=result.teacher.accuracy,
        runs=[result.graded, result.shuffled],
        criteria=result.criteria,
        samples=result.samples,
        costs=[cost.row for cost in result.costs],
        costs_header=COSTS_HEADER,
        notes=NOTES,
    )


def cost_of(label: str, events: Sequence[Mapping[str, Any]]) -> Cost:
    """Over all steps of a run."""
    spent = [event["grading"] for event in events if event["event"] == "step" and event["grading"]]
    names = ("verdicts", "missing", "calls", "prompt_tokens", "completion_tokens")
    return Cost(label, *(sum(one[name] for one in spent) for name in names))


def _with_verdicts(curves: RunCurves, events: Sequence[Mapping[str, Any]], cost: Cost) -> RunCurves:
    graded = [event for event in events if event["event"] == "step" and event["grading"]]
    means = [(event["step"], event["grading"]["mean_reward"]) for event in graded]
    points = [(step, mean) for step, mean in means if mean is not None]
    return replace(curves, verdicts=points, teacher_tokens=cost.prompt_tokens + cost.completion_tokens)


def _samples(events: Sequence[Mapping[str, Any]], teacher: Answers) -> list[Sample]:
    before, after = answers_of(events)
    return [
        Sample(old["prompt"], old["answer"], old["response"], new["response"], text, old["right"], new["right"])
        for old, new, text in zip(before, after, teacher.texts, strict=False)
    ]


def _at_least(claim: str, points: float, bar: float) -> Criterion:
    return Criterion(claim, f"{points:.1f} points", f">= {bar:.1f} points", points >= bar)


def _quiet(_: object) -> None:
    """The control shows its result, not its way."""
