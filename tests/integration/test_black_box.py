"""A student learns from a provider: verdicts from text alone reach the loss, and the control deals the same ones elsewhere."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import pytest
import yaml

from examples.tiny.task import load
from preceptor.config.settings import ClientSettings
from preceptor.demo.black_box import black_box_report, black_box_stack, run_black_box
from preceptor.demo.pair import Pair
from preceptor.journal import BatchSent, LearnerJournal
from preceptor.learner import Control, Learner, RunFolder, RunPlan, evaluation_items, training_prompts
from preceptor.learner.inline import in_this_process
from preceptor.local.supervisor import Supervisor
from preceptor.planning import Price, estimate_run
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.report import render_demo
from preceptor_proto.v1 import student_pb2
from preceptor_teacher.testing import FaultPlan, StandIn, standing_in
from preceptor_teacher.testing.judging import agreement
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
ROOT = Path(__file__).parents[2]
STEPS, PROMPTS, SAMPLES = 2, 3, 4
Through = Literal["service", "queue"]
THROUGH = ["service", pytest.param("queue", marks=pytest.mark.slow)]
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    f"sources.rollouts.samples_per_prompt={SAMPLES}",
    "schedule.checkpoint_every_steps=100",
    "evaluation.prompts=8",
)


class KeepBatches:
    """Reads each batch out of the journal before the end of the run compacts it."""

    def __init__(self) -> None:
        self.batches: dict[int, BatchSent] = {}

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write = LearnerJournal.write

        async def kept(journal: LearnerJournal, *records) -> None:
            self.batches |= {one.step: one for one in records if isinstance(one, BatchSent)}
            await write(journal, *records)

        monkeypatch.setattr(LearnerJournal, "write", kept)

    def items(self) -> list[student_pb2.TrainItem]:
        batches = (student_pb2.MicroBatch.FromString(part) for one in self.batches.values() for part in one.micro_batches)
        return [item for batch in batches for item in batch.items]


def environ_of(runs: Path, provider: StandIn) -> dict[str, str]:
    """What the services read: the provider is the only teacher."""
    runs.mkdir(exist_ok=True)
    judge = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"]}
    (runs / "teachers.yaml").write_text(yaml.safe_dump({"teachers": {"tiny-judge": judge}}))
    student = f"tiny={ROOT / 'examples' / 'tiny' / 'student'}"
    teachers = {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(runs / "teachers.yaml")}
    return {**teachers, "PRECEPTOR_ROLLOUT_MODEL": student, "PRECEPTOR_STUDENT_MODEL": student}


async def learn(
    runs: Path, provider: StandIn, control: Control = "none", *, resume: bool = False, through: Through = "service"
) -> list[dict]:
    """A run over all services in this process; the events it told."""
    environ = environ_of(runs, provider)
    recipe = load_recipe(ROOT / "recipes" / "tiny-verbal.yaml", OVERRIDES)
    plan = RunPlan("bb", "local", compile_recipe(recipe), training_prompts(recipe), evaluation_items(recipe), control)
    async with in_this_process(ClientSettings(grade_through=through), runs, environ=environ) as ports:
        await Learner(plan, ports, RunFolder.of(runs, "bb"), resume=resume).run()
    return [json.loads(line) for line in (runs / "bb" / "events.jsonl").read_text().splitlines()]


def text_of(item: student_pb2.TrainItem) -> str:
    ids = memoryview(item.sequence.segments[1].response.u32le).cast("I")
    return bytes(one - 5 for one in ids if one >= 5).decode(errors="replace")


def rewards(items: list[student_pb2.TrainItem]) -> list[float]:
    return [scores.reward for item in items for scores in item.scores if scores.HasField("reward")]


def check_what_was_estimated(events: list[dict]) -> None:
    """A real run spends what `learn --estimate` prints before the first call."""
    recipe = load_recipe(ROOT / "recipes" / "tiny-verbal.yaml", OVERRIDES)
    plan = RunPlan("bb", "local", compile_recipe(recipe), training_prompts(recipe), evaluation_items(recipe))
    price = Price(prompt_usd_per_million=2.0, completion_usd_per_million=8.0)
    said = estimate_run(plan, {"tiny-judge": price})
    (graded,), steps = said.work.graded, [event for event in events if event["event"] == "step"]
    read, written, calls = (
        sum(event["grading"][name] for event in steps) for name in ("prompt_tokens", "completion_tokens", "calls")
    )
    assert calls in graded.asking.calls
    assert read in graded.asking.prompt_tokens
    assert written in graded.asking.completion_tokens
    assert said.cost is not None
    assert read * 2e-6 + written * 8e-6 in said.cost
    assert sum(event["tokens_generated"] for event in steps) in said.work.drawn


@pytest.mark.parametrize("through", THROUGH)
async def test_the_reward_of_each_rollout_is_the_judges_score_of_its_text(tmp_path, monkeypatch, through: Through):
    kept = KeepBatches()
    kept.watch(monkeypatch)
    async with standing_in(BUNDLED_TEACHER, faults=FaultPlan(script=("server_error", "rate_limited"))) as provider:
        events = await learn(tmp_path / "runs", provider, through=through)
    items, problems = kept.items(), load("distil")
    assert len(items) == STEPS * PROMPTS * SAMPLES
    assert rewards(items) == [agreement(problems[item.id.prompt].worked, text_of(item)) for item in items]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2]
    assert sum(event["grading"]["calls"] for event in steps) == provider.provider.seen["chat"]
    assert provider.provider.seen["judged"] == provider.provider.seen["chat"] - 2
    assert all(event["grading"]["missing"] == 0 and event["grading"]["prompt_tokens"] > 0 for event in steps)
    assert all(math.isfinite(event["grad_norm"]) and event["grad_norm"] > 0 for event in steps)
    check_what_was_estimated(events)


async def test_a_checked_reward_is_whether_the_answer_is_right(tmp_path, monkeypatch):
    kept = KeepBatches()
    kept.watch(monkeypatch)
    student = f"tiny={ROOT / 'examples' / 'tiny' / 'student'}"
    (tmp_path / "teachers.yaml").write_text("teachers: {checks: {engine: check}}")
    environ = {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(tmp_path / "teachers.yaml")}
    environ |= {"PRECEPTOR_ROLLOUT_MODEL": student, "PRECEPTOR_STUDENT_MODEL": student}
    recipe = load_recipe(ROOT / "recipes" / "grpo.yaml", (*OVERRIDES, "schedule.publish_every_steps=2"))
    plan = RunPlan.of("checked", "local", compile_recipe(recipe))
    assert estimate_run(plan, {}).work.graded == ()
    async with in_this_process(ClientSettings(), tmp_path, environ=environ) as ports:
        await Learner(plan, ports, RunFolder.of(tmp_path, "checked")).run()
    items, problems = kept.items(), load("distil")
    words = [text_of(item).split() for item in items]
    right = [bool(one) and one[-1] == problems[item.id.prompt].answer for one, item in zip(words, items, strict=True)]
    assert rewards(items) == [float(one) for one in right]
    assert len(items) == STEPS * PROMPTS * SAMPLES


@pytest.mark.slow
async def test_the_control_has_the_same_verdicts_of_the_first_step_on_other_rollouts(tmp_path, monkeypatch):
    dealt: dict[str, list[student_pb2.TrainItem]] = defaultdict(list)
    async with standing_in(BUNDLED_TEACHER) as provider:
        for control in ("none", "permute_scores"):
            kept = KeepBatches()
            with pytest.MonkeyPatch.context() as patch:
                kept.watch(patch)
                await learn(tmp_path / control, provider, control)
            dealt[control] = [item for item in kept.items() if item.id.step == 0]
    plain, shuffled = dealt.values()
    assert [text_of(item) for item in plain] == [text_of(item) for item in shuffled]
    assert Counter(rewards(plain)) == Counter(rewards(shuffled))
    assert rewards(plain) != rewards(shuffled)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_runs_through_real_processes_and_reports_what_it_cost(tmp_path):
    async def demo():
        pair = Pair.at(ROOT / "examples" / "tiny")
        box = black_box_stack(pair, tmp_path / "logs", tmp_path)
        async with Supervisor(box.stack.stages):
            return box, await run_black_box(box, pair, tmp_path, lambda _: None, steps=2)

    box, result = asyncio.run(demo())
    assert result.teacher.accuracy > 0.95
    assert result.graded.start == result.shuffled.start
    assert [cost.verdicts for cost in result.costs] == [256, 256]
    assert all(cost.missing == 0 and 0 < cost.calls <= 256 for cost in result.costs)
    page = render_demo(black_box_report(result, command="c", when="w", machine="m"))
    assert all(f"{cost.calls:,}" in page for cost in result.costs)
    for file in (path for path in tmp_path.rglob("*") if path.is_file() and path.name != "provider.key"):
        assert box.provider.key.encode() not in file.read_bytes(), file
