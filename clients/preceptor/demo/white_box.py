"""The demo: distil through the real services, then the same start and seeds with scores permuted, and with SFT instead."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preceptor.client.teacher import AsyncTeacherClient
from preceptor.demo.engines import Engine, rollout_plan, teacher_plan
from preceptor.demo.look import Answers, Coloured, coloured_rollout, greedy_answers
from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.demo.runs import DemoRun, answers_of, events_of, plan_of, train
from preceptor.learner import RunFolder, Watch
from preceptor.learner.connect import connected
from preceptor.learner.events import Event
from preceptor.local.stack import ServicePlan, Stack, build_stack
from preceptor.report import Criterion, RunCurves, Sample

STEPS = 40
OF_TEACHER = 0.85
OVER_CONTROL_POINTS = 30.0
OVER_START_POINTS = 30.0
MAX_RESPONSE_TOKENS = 40
WRITER = "writer"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything a report or a table needs."""

    teacher: Answers
    distilled: RunCurves
    controls: Sequence[RunCurves]
    samples: Sequence[Sample]
    look: Coloured

    @property
    def criteria(self) -> list[Criterion]:
        """What the demo claims; all of it must hold."""
        share = self.distilled.end / self.teacher.accuracy
        gain = 100 * (self.distilled.end - self.distilled.start)
        over = 100 * (self.distilled.end - self.controls[0].end)
        return [
            _at_least("the student's accuracy, of the teacher's", f"{share:.1%}", f"{OF_TEACHER:.0%}", share >= OF_TEACHER),
            _at_least("gain over its own start", _points(gain), _points(OVER_START_POINTS), gain >= OVER_START_POINTS),
            _at_least("gain over permuted scores", _points(over), _points(OVER_CONTROL_POINTS), over >= OVER_CONTROL_POINTS),
        ]


def demo_stack(pair: Pair, folder: Path, runs: Path, engine: Engine = "hf") -> Stack:
    """Teacher, student, rollout, and a rollout service that writes with the teacher's weights, all on free ports."""
    services = (
        teacher_plan(engine, pair, folder),
        ServicePlan("student", "student", pair.student_model),
        rollout_plan("rollout", engine, pair.student_model),
        rollout_plan(WRITER, engine, pair.teacher_model),
    )
    return build_stack(folder, runs, services)


def demo_runs(pair: Pair, steps: int, prefix: str) -> tuple[DemoRun, DemoRun, DemoRun]:
    """The run and its two controls: same weights, same prompts, same seeds, same number of steps."""
    falling = f"optimizer.learning_rate.steps={steps}"
    shared = (f"schedule.steps={steps}", falling, "schedule.deterministic=false", "evaluation.prompts=256")
    own = (*shared, f"evaluation.every_steps={max(1, steps // 5)}")
    end = (*shared, f"evaluation.every_steps={steps}")
    reverse_kl = pair.recipe("reverse-kl")
    return (
        DemoRun(f"{prefix}distilled", "distilled", reverse_kl, own),
        DemoRun(f"{prefix}permuted", "scores permuted", reverse_kl, end, "permute_scores", "control"),
        DemoRun(f"{prefix}sft", "SFT, equal tokens", pair.recipe("sft"), end, tone="second"),
    )


async def run_demo(stack: Stack, pair: Pair, runs: Path, watch: Watch, steps: int = STEPS, prefix: str = "demo-") -> DemoResult:
    """Needs the stack to be up. The distilled run has the machine to itself; the controls run beside each other."""
    distil, permuted, sft = demo_runs(pair, steps, prefix)
    teacher, look = await _before(stack, pair, distil)
    distilled = await train(distil, stack.client(), runs, watch)
    writers = {TEACHER_NAME: WRITER}
    controls = await asyncio.gather(
        train(permuted, stack.client(), runs, _beside(permuted, watch)),
        train(sft, stack.client(writers=writers), runs, _beside(sft, watch)),
    )
    return DemoResult(teacher, distilled, controls, _samples(runs, distil, teacher), look)


async def _before(stack: Stack, pair: Pair, run: DemoRun) -> tuple[Answers, Coloured]:
    """How good the teacher is, and what it thinks of a rollout of the untrained student."""
    items = plan_of(run).evaluation
    settings = stack.client(writers={TEACHER_NAME: WRITER})
    async with connected(settings) as ports, AsyncTeacherClient(settings.teacher) as teacher:
        answers = await greedy_answers(ports.writers[TEACHER_NAME], items, MAX_RESPONSE_TOKENS)
        return answers, await coloured_rollout(ports.rollout, teacher, items, pair, MAX_RESPONSE_TOKENS)


def _samples(runs: Path, run: DemoRun, teacher: Answers) -> list[Sample]:
    before, after = answers_of(events_of(RunFolder.of(runs, run.name).events))
    return [
        Sample(old["prompt"], old["answer"], old["response"], new["response"], text, old["right"], new["right"])
        for old, new, text in zip(before, after, teacher.texts, strict=False)
    ]


def _at_least(claim: str, value: str, bar: str, ok: bool) -> Criterion:
    return Criterion(claim, value, f">= {bar}", ok)


def _points(value: float) -> str:
    return f"{value:.1f} points"


def _beside(run: DemoRun, watch: Watch) -> Watch:
    """Of a control only how far it is: its numbers would read as those of the run."""

    def told(event: Event) -> None:
        if event["event"] in ("started", "step"):
            watch({"event": "control", "run": run.label, "step": event["step"]})

    return told
