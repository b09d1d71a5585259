"""omniopd through the whole system: what the judge goes on with reaches the very tokens of each chunk, and nothing else does."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from examples.tiny.task import load
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_proto.v1 import student_pb2
from preceptor_teacher.testing import StandIn, standing_in
from tests.integration.test_black_box import OVERRIDES, PROMPTS, ROOT, SAMPLES, KeepBatches, text_of
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
STUDENT = ROOT / "examples" / "tiny" / "student"
AUDITS = 3


def environ_of(folder: Path, provider: StandIn) -> dict[str, str]:
    judge = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"]}
    served = {"tiny-judge": judge, "tiny-student": {"folder": str(STUDENT)}}
    (folder / "teachers.yaml").write_text(yaml.safe_dump({"teachers": served}))
    student = f"tiny={STUDENT}"
    teachers = {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(folder / "teachers.yaml")}
    return {**teachers, "PRECEPTOR_ROLLOUT_MODEL": student, "PRECEPTOR_STUDENT_MODEL": student}


def words_of_rows(item: student_pb2.TrainItem) -> list[int]:
    """Of each row: which word its byte is in, a space being of the later one; the end is behind the last."""
    ids = np.frombuffer(item.sequence.segments[1].response.u32le, "<u4")
    text = text_of(item)
    word, found = 0, []
    for at, one in enumerate(ids):
        word += int(at > 0 and one >= 5 and text[at] == " ")
        found.append(word if one >= 5 else len(text.split()))
    return found


def step_of_rows(item: student_pb2.TrainItem) -> tuple[list[int], list[float]]:
    """Of each row: its step as it was sent; and the rewards of steps."""
    [scores] = [one for one in item.scores if one.HasField("reward")]
    ends = np.frombuffer(scores.step_rows_u32le, "<u4")
    rows = len(item.sequence.segments[1].response.u32le) // 4
    return np.searchsorted(ends, np.arange(rows), side="right").tolist(), np.frombuffer(scores.step_rewards_f32le, "<f4").tolist()


async def test_each_word_has_its_own_reward_where_the_student_was_least_sure(tmp_path: Path, monkeypatch) -> None:
    kept = KeepBatches()
    kept.watch(monkeypatch)
    recipe = load_recipe(ROOT / "recipes" / "omniopd.yaml", (*OVERRIDES, "schedule.steps=1", "evaluation=null"))
    plan = RunPlan.of("chunks", "local", compile_recipe(recipe))
    async with (
        standing_in(BUNDLED_TEACHER) as provider,
        in_this_process(ClientSettings(), tmp_path, environ=environ_of(tmp_path, provider)) as ports,
    ):
        await Learner(plan, ports, RunFolder.of(tmp_path, "chunks")).run()
    items, problems = kept.items(), load("distil")
    assert len(items) == PROMPTS * SAMPLES
    told = 0
    for item in items:
        steps, rewards = step_of_rows(item)
        words = words_of_rows(item)
        assert steps == words
        logprobs = np.frombuffer(item.behaviour.logprob_policy_f32le, "<f4")
        unsure = list(dict.fromkeys(words[row] for row in np.argsort(logprobs, kind="stable")))[:AUDITS]
        assert {place for place, one in enumerate(rewards) if not math.isnan(one)} >= set(unsure)
        assert sum(not math.isnan(one) for one in rewards) == min(AUDITS, len(rewards))
        ours, theirs = text_of(item).split(), problems[item.id.prompt].worked.split()
        for place, reward in enumerate(rewards):
            if (
                not math.isnan(reward) and ours[:place] == theirs[:place]
            ):  # so far they are one, and the judge writes on as it would
                told += 1
                assert reward == float(ours[place : place + 1] == theirs[place : place + 1])
    assert told > len(items) / 2
    events = [json.loads(line) for line in (tmp_path / "chunks" / "events.jsonl").read_text().splitlines()]
    taken = [event for event in events if event["event"] == "step"]
    assert sum(event["grading"]["calls"] for event in taken) == provider.provider.seen["continued"] > 0
    for event in taken:
        metrics = event["metrics"]
        assert metrics["term.audited.valid_rows"] > 0
        assert metrics["term.anchored.valid_rows"] > 0
        assert metrics["term.audited.valid_rows"] + metrics["term.anchored.valid_rows"] == sum(
            len(words_of_rows(item)) for item in items if item.id.step == event["step"] - 1
        )
        assert math.isfinite(event["grad_norm"])
        assert event["grad_norm"] > 0
