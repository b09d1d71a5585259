"""omniopd through the whole system: what the judge goes on with reaches the very tokens of each chunk, and nothing else does."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from examples.tiny.decode import load_model
from examples.tiny.task import load
from examples.tiny.try_opd import batches
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_proto.v1 import student_pb2
from preceptor_teacher.testing import StandIn, standing_in
from tests.integration.test_black_box import OVERRIDES, PROMPTS, ROOT, SAMPLES, KeepBatches, text_of
from tests.reference.chunk_loop import Audited
from tests.reference.opd_loop import Settings, distil
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


@pytest.mark.slow
async def test_the_first_steps_are_those_of_a_loop_of_one_process(tmp_path: Path) -> None:
    sizes = ("schedule.steps=3", "schedule.prompts_per_step=4", "schedule.checkpoint_every_steps=3", "evaluation=null")
    recipe = load_recipe(ROOT / "recipes" / "omniopd.yaml", sizes)
    async with (
        standing_in(BUNDLED_TEACHER) as provider,
        in_this_process(ClientSettings(), tmp_path, environ=environ_of(tmp_path, provider)) as ports,
    ):
        await Learner(RunPlan.of("chunks", "local", compile_recipe(recipe)), ports, RunFolder.of(tmp_path, "chunks")).run()
    torch.set_num_threads(1)
    student, settings = load_model("student"), Settings(samples_per_prompt=8, learning_rate=1e-4, decay_steps=60)
    loop = distil(student, load_model("student"), batches(load("distil"), 4), Audited(load_model("teacher")), settings)
    theirs = list(islice(loop, 3))
    events = [json.loads(line) for line in (tmp_path / "chunks" / "events.jsonl").read_text().splitlines()]
    ours = [event for event in events if event["event"] == "step"]
    for one, two in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=0, abs=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=5e-5)  # of weights 4e-8 apart, in f32, by the third step
    published, start = load_file(newest_version(tmp_path / "chunks")), load_model("student").state_dict()
    assert max(float((value - student.state_dict()[name]).abs().max()) for name, value in published.items()) <= 1e-5
    assert max(float((value - start[name]).abs().max()) for name, value in published.items()) > 1e-4


def newest_version(folder: Path) -> Path:
    return max((folder / "versions").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
