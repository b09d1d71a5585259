"""Our step, through the whole system in one process: learner, rollout, teacher and student service, journal and weight swap."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from unittest import mock

from benchmarks.step.cases import LONGEST, PROMPTS
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts
from preceptor.learner.events import Event
from preceptor.learner.inline import in_this_process
from preceptor.recipes import CompiledRecipe, compile_recipe, recipe_from
from preceptor.types import FinishReason
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import growth
from preceptor_rollout.stops import Decode, StopRules

LEARNING_RATE = 1e-6
MICRO_BATCH_TOKENS = 16_384
Signal = str | Mapping[str, object]
LISTS: Signal = {"op": "support", "params": {"teacher_topk": 64, "student_topk": 64}}
"""Both sides' top 64, the drawn token and the tail."""
WHOLE: Signal = "hidden"
"""Every token, as TRL has it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each step, and of its stages."""

    seconds: list[float]
    stages: list[dict[str, float]]
    tokens: list[int]
    busy_s: list[float] = field(default_factory=list[float])  # of the processor, where it was asked for


def recipe(prompts: Path, steps: int, signal: Signal = LISTS, **schedule: object) -> CompiledRecipe:
    """Reverse KL in packed rows."""
    values = {
        "version": 1,
        "name": "bench-step",
        "summary": "What a step costs.",
        "data": {"path": str(prompts)},
        "sources": {"rollouts": {"samples_per_prompt": 1, "max_response_tokens": LONGEST}},
        "teachers": {"tutor": {"model": "teacher"}},
        "terms": [{"on": "rollouts", "teacher": "tutor", "signal": signal, "objective": "reverse_kl"}],
        "optimizer": {"learning_rate": LEARNING_RATE},
        "training": {"layout": "packed"},
        "schedule": {
            "steps": steps,
            "prompts_per_step": PROMPTS,
            "micro_batch_tokens": MICRO_BATCH_TOKENS,
            "checkpoint_every_steps": steps,
            **schedule,
        },
    }
    return compile_recipe(recipe_from(values))


async def steps_inline(
    pair: tuple[Path, Path], prompts: Path, runs: Path, lengths: Sequence[Sequence[int]], threads: int, signal: Signal
) -> Measured:
    """Every step of a run; the time of the first begins when everything is loaded."""
    student, teacher = pair
    environ = {
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(_teachers_file(runs, teacher, threads)),
        "PRECEPTOR_ROLLOUT_MODEL": f"student={student}",
        "PRECEPTOR_STUDENT_MODEL": f"student={student}",
        "PRECEPTOR_TEACHER_SCORE_CACHE_MEMORY_BYTES": "0",
        "PRECEPTOR_ROLLOUT_THREADS": str(threads),
        "PRECEPTOR_STUDENT_THREADS": str(threads),
        "PRECEPTOR_STUDENT_TEACHER_HEADS": str(teacher),
    }
    made = recipe(prompts, len(lengths), signal)
    plan = RunPlan("bench", "local", made, training_prompts(made.recipe))
    with lengths_of_rollouts(lengths):
        async with in_this_process(ClientSettings(), runs, environ=environ) as ports:
            return await watched(lambda watch: Learner(plan, ports, RunFolder.of(runs, "bench"), watch=watch))


def _teachers_file(runs: Path, teacher: Path, threads: int) -> Path:
    runs.mkdir(parents=True)
    path = runs / "teachers.yaml"
    path.write_text(json.dumps({"teachers": {"teacher": {"folder": str(teacher), "threads": threads}}}))
    return path


async def watched(learner: Callable[[Callable[[Event], None]], Learner], busy_s: Callable[[], float] = lambda: 0.0) -> Measured:
    """Runs a learner and keeps when each of its steps ended, and what `busy_s` counted meanwhile."""
    told: list[Event] = []
    ended: list[float] = []
    busy: list[float] = []

    def watch(event: Event) -> None:
        if event["event"] in ("started", "step"):
            ended.append(time.perf_counter())
            busy.append(busy_s())
            told.append(event)

    await learner(watch).run()
    steps = [event for event in told if event["event"] == "step"]
    took, worked = ([end - start for start, end in pairwise(one)] for one in (ended, busy))
    return Measured(took, [event["seconds"] for event in steps], [event["tokens_generated"] for event in steps], worked)


@contextmanager
def lengths_of_rollouts(lengths: Sequence[Sequence[int]]) -> Iterator[None]:
    """Rollouts end at these lengths instead of where the student ends them."""
    source = Lengths([length for step in lengths for length in step])
    with mock.patch.object(growth, "StopRules", source):
        yield


@dataclass(slots=True)
class Lengths:
    """Stands in for `StopRules`: hands the lengths out, one to each sequence in the order of its batch."""

    lengths: list[int]
    given: dict[int, int] = field(default_factory=dict[int, int])

    def of(self, sampling: rollout_pb2.Sampling, eos_ids: Sequence[int]) -> StopRules:
        rules = StopRules.of(sampling, eos_ids)
        return Scripted(rules.eos_ids, rules.extra_ids, rules.strings, rules.max_new_tokens, source=self)


@dataclass(frozen=True)
class Scripted(StopRules):
    """The rules of one batch whose lengths are known."""

    source: Lengths = field(kw_only=True)

    def ends(self, ids: Sequence[int], decode: Decode, first_row: int = 0) -> FinishReason | None:
        if len(ids) == 1:
            self.source.given[id(ids)] = self.source.lengths.pop(0)
        return FinishReason.LENGTH if len(ids) >= self.source.given[id(ids)] else None
