"""The demo on another engine: what is started, and what sharing has to show where bits cannot be equal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from preceptor.cli.demo import demo
from preceptor.demo.engines import VLLM, rollout_plan, teacher_plan
from preceptor.demo.pair import DEFAULT_PAIR, TEACHER_NAME, Pair
from preceptor.demo.shared import CHANCE_PROMPTS, Share, SharedJob, criteria_of
from preceptor.errors import InvalidArgument
from preceptor.report import RunCurves
from preceptor_teacher.catalog import TeacherSpec, read_teachers


def job(alone: float, beside: float) -> SharedJob:
    curves = RunCurves("k1", [(0, 0.0), (8, beside)], [], "run", 1.0, 1)
    share = Share(1, 0.0, 1.0)
    return SharedJob("k1", curves, share, share, "a", "b", alone)


@pytest.mark.parametrize(("alone", "beside", "ok"), [(0.5, 0.5, True), (0.5, 0.58, True), (0.5, 0.6, False), (0.0, 1.0, False)])
def test_jobs_that_share_end_within_two_standard_errors(alone: float, beside: float, ok: bool):
    [criterion] = criteria_of([job(alone, beside)], exact=False)
    assert criterion.ok is ok
    variance = (alone * (1 - alone) + beside * (1 - beside)) / CHANCE_PROMPTS
    if variance:
        assert job(alone, beside).apart == pytest.approx(abs(beside - alone) / math.sqrt(variance))
    assert not criteria_of([job(alone, beside)])[0].ok  # other weights are never equal bits


def test_vllm_is_chosen_by_what_the_services_read(tmp_path: Path):
    pair = Pair.at(DEFAULT_PAIR)
    plan = teacher_plan("vllm", pair, tmp_path, ("--score-cache-memory-bytes", "0"))
    assert (plan.model, plan.flags[0], plan.flags[2:]) == (None, "--teachers-file", ("--score-cache-memory-bytes", "0"))
    [entry] = read_teachers(Path(plan.flags[1]))
    assert isinstance(entry, TeacherSpec)
    assert (entry.name, entry.engine.engine) == (TEACHER_NAME, "vllm")
    rollout = rollout_plan("rollout", "vllm", pair.student_model, ("--max-versions", "6"))
    assert rollout.flags[:4] == ("--max-versions", "6", "--engine", "vllm")
    assert json.loads(rollout.flags[5]) == VLLM
    assert rollout_plan("rollout", "hf", pair.student_model).flags == ()


def test_an_engine_that_cannot_be_had_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument) as failed:
        demo(tmp_path, engine="vlm")
    assert failed.value.field == "--engine"
