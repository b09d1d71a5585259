"""Graders that ask nobody: what is right by a rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from preceptor.client import AsyncTeacherClient, GradeOptions
from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError, InvalidArgument, Unsupported
from preceptor.recipes.ops.reward import COMPARING
from preceptor.types import GradeItem, Validity
from preceptor_serving.run import running
from preceptor_teacher.catalog import read_teachers
from preceptor_teacher.graders import names_of_graders
from preceptor_teacher.graders.exact import Exact, ExactParams
from preceptor_teacher.graders.math_verify import MathVerify, MathVerifyParams
from preceptor_teacher.graders.protocol import CHECK
from preceptor_teacher.mathematics import Answer, MathProcess
from preceptor_teacher.service import TeacherService


@dataclass
class Scripted(MathProcess):
    """Known answers, and no process."""

    answer: Answer
    asked: list[tuple[str, str, float]] = field(default_factory=list)

    async def compare(self, reference: str, response: str, within_s: float) -> Answer:
        self.asked.append((reference, response, within_s))
        return self.answer


@pytest.mark.parametrize(
    ("match", "response", "reward"),
    [
        ("last_word", "8 hundred, so 834", 1.0),
        ("last_word", "834 it is", 0.0),
        ("last_word", "1834", 0.0),
        ("last_word", "", 0.0),
        ("exact", " 834\n", 1.0),
        ("exact", "so 834", 0.0),
    ],
)
async def test_exact_is_right_or_wrong(match: str, response: str, reward: float) -> None:
    verdict = await Exact(ExactParams.model_validate({"match": match})).grade(GradeItem("478+356", response, "834"))
    assert (verdict.validity, verdict.reward, verdict.calls) == (Validity.OK, reward, 0)


async def test_without_a_reference_there_is_nothing_to_compare_with() -> None:
    for grader in (Exact(ExactParams()), MathVerify(MathVerifyParams(), Scripted(Answer(True)))):
        with pytest.raises(InvalidArgument) as caught:
            await grader.grade(GradeItem("478+356", "834", " "))
        assert caught.value.field == "reference"


@pytest.mark.parametrize(("answer", "reward"), [(Answer(True), 1.0), (Answer(False), 0.0), (Answer(False, in_time=False), 0.0)])
async def test_mathematics_is_right_or_wrong(answer: Answer, reward: float) -> None:
    process = Scripted(answer)
    verdict = await MathVerify(MathVerifyParams(seconds=3), process).grade(GradeItem("p", "r", "a"))
    assert (verdict.validity, verdict.reward) == (Validity.OK, reward)
    assert process.asked == [("a", "r", 3.0)]


async def test_a_reference_that_is_no_mathematics_gives_no_verdict() -> None:
    verdict = await MathVerify(MathVerifyParams(), Scripted(Answer(None))).grade(GradeItem("p", "r", "a"))
    assert (verdict.validity, verdict.reward) == (Validity.MISSING, None)
    assert "reference" in verdict.reason


def test_recipes_know_which_graders_ask_nobody() -> None:
    assert set(COMPARING) == set(names_of_graders(CHECK))


async def test_a_teacher_that_checks_serves_without_a_model(tmp_path: Path) -> None:
    file = tmp_path / "teachers.yaml"
    file.write_text(yaml.safe_dump({"teachers": {"checks": {"engine": "check", "aliases": ["rules"]}}}))
    items = [GradeItem("p", "so 834", "834"), GradeItem("p", "so 835", "834"), GradeItem("p", "834")]
    settings = TeacherSettings(grpc_port=0, rest_port=0, teachers_file=file)
    async with running(TeacherService(), settings) as house, AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
        [info] = await client.describe("rules")
        assert (info.engine, info.capabilities.graders) == ("check", ("exact", "math_verify"))
        graded: list[Any] = await client.grade("checks", items, GradeOptions(grader="exact"))
        right, wrong, bare = graded
        assert (right.reward, wrong.reward) == (1.0, 0.0)
        assert (right.receipt.model.name, right.receipt.engine) == ("checks", "check")
        assert isinstance(bare, InvalidArgument)
        assert bare.field == "items[2].reference"
        item = GradeItem("p", r"\boxed{\frac{2}{4}}", "1/2")
        same: list[Any] = await client.grade("rules", [item], GradeOptions(grader="math_verify"))
        assert [one.reward for one in same] == [1.0]
        with pytest.raises(Unsupported) as refused:
            await client.grade("checks", items, GradeOptions(grader="verbal"))
        assert (refused.value.field, refused.value.limit) == ("spec.grader", "exact | math_verify")


def test_there_is_nothing_to_set_of_one(tmp_path: Path) -> None:
    file = tmp_path / "teachers.yaml"
    file.write_text(yaml.safe_dump({"teachers": {"checks": {"engine": "check", "model": "m"}}}))
    with pytest.raises(ConfigurationError) as caught:
        read_teachers(file)
    assert caught.value.field == "teachers.checks.model"
