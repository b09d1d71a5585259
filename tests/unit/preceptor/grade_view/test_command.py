"""`preceptor grade` against a real teacher service: one that checks, and a judge behind the stand-in provider."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from preceptor.cli import grade as cli
from preceptor.cli import run
from preceptor.config import TeacherSettings
from preceptor.grade_view.asking import RECORDS_A_REQUEST
from preceptor.grade_view.records import FIELDS
from preceptor_proto.v1.teacher_pb2 import GradeItem, GradeRequest, GradeSpec
from preceptor_serving.run import running
from preceptor_teacher.checks import CheckSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import FaultPlan
from tests.unit.preceptor_teacher.grading.test_grade_door import judged


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[str]:
    """What the command prints, without the log lines that services in this process write to the same stdout."""
    lines: list[str] = []
    monkeypatch.setattr(cli, "print", lambda line, **_: lines.append(line), raising=False)
    monkeypatch.setattr(cli, "quiet_logs", lambda _: None)
    return lines


@asynccontextmanager
async def checking() -> AsyncGenerator[list[str]]:
    """A teacher that compares, and the flags that lead to it."""
    async with running(TeacherService((CheckSpec("checks"),)), TeacherSettings(grpc_port=0, rest_port=0)) as house:
        yield ["--teacher", f"127.0.0.1:{house.grpc_port}", "--grader", "exact"]


async def grade(*words: str) -> int:
    return await asyncio.to_thread(run, ["grade", *words])


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


async def test_each_record_has_its_verdict_in_the_order_of_the_file(told, tmp_path: Path) -> None:
    count = 2 * RECORDS_A_REQUEST + 3
    file = tmp_path / "rollouts.jsonl"
    file.write_text(lines(*({"prompt": "p", "response": f"{n % 3}", "reference": "1", "id": n} for n in range(count))))
    async with checking() as flags:
        assert await grade(*flags, "--from", str(file)) == 0
    found = [json.loads(line) for line in told]
    assert [one["id"] for one in found] == list(range(count))
    assert [one["source"] for one in found] == [f"{file}:{n + 1}" for n in range(count)]
    assert [one["verdict"]["reward"] for one in found] == [float(n % 3 == 1) for n in range(count)]


async def test_an_item_that_cannot_be_graded_is_an_error_of_its_own_and_of_the_exit_code(told, monkeypatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.StringIO(lines({"prompt": "p", "response": "r"}, {"prompt": "p", "response": "r", "reference": "r"}))
    )
    async with checking() as flags:
        assert await grade(*flags, "--from", "-") == 1
    bare, good = map(json.loads, told)
    assert (bare["source"], bare["error"]["code"], good["verdict"]["reward"]) == ("stdin:1", "INVALID_ARGUMENT", 1.0)


async def test_parameters_reach_the_grader_and_one_response_needs_no_file(told, capsys) -> None:
    one = ("--prompt", "p", "--response", "so 7", "--reference", "7")
    async with checking() as flags:
        assert await grade(*flags, *one) == 0
        assert await grade(*flags, *one, "--param", "match=exact") == 0
        assert [json.loads(line)["verdict"]["reward"] for line in told] == [1.0, 0.0]
        assert await grade(*flags, *one, "--param", "macth=exact") == 2
        assert await grade(*flags[:-1], "exakt", *one) == 2
    failures = capsys.readouterr().err
    assert "spec.parameters_json.macth" in failures
    assert "no teacher of this service has the grader exakt" in failures


async def test_a_judge_that_is_away_fails_its_records_and_a_file_keeps_what_was_said(told, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text(lines({"prompt": "478+356", "response": "8+6+0=14 7+5+1=13 4+3+1=08 834"}))
    async with judged() as (house, _):
        flags = ["--teacher", f"127.0.0.1:{house.grpc_port}", "--from", str(file), "--out", str(out)]
        assert await grade(*flags) == 0
        assert await grade(*flags) == 2  # never over verdicts that are there
    [verdict] = map(json.loads, told)
    assert (verdict["verdict"]["reward"], verdict["verdict"]["calls"]) == (10.0, 1)
    async with judged(faults=FaultPlan({"server_error": 1.0}), max_attempts=1) as (house, _):
        assert await grade("--teacher", f"127.0.0.1:{house.grpc_port}", "--from", str(file)) == 1
    assert json.loads(told[-1])["error"]["code"] == "UNAVAILABLE"


async def test_doubts_of_a_record_and_of_a_single_response_say_what_is_audited(told, tmp_path: Path) -> None:
    response = "8+6+0=14 7+5+1=13 4+3+1=08 834"
    file = tmp_path / "in.jsonl"
    file.write_text(lines({"prompt": "478+356", "response": response, "unsure_at": [18, 3]}))
    chunks = ("--grader", "chunks", "--param", "chunk_words=1", "--param", "most_chunks=1")
    async with judged() as (house, _):
        flags = ["--teacher", f"127.0.0.1:{house.grpc_port}", *chunks]
        assert await grade(*flags, "--from", str(file)) == 0
        assert await grade(*flags, "--prompt", "478+356", "--response", response, "--unsure-at", "9", "--unsure-at", "20") == 0
    rewards = [json.loads(line)["verdict"]["step_rewards"] for line in told]
    assert rewards == [[None, None, 1.0, None, None], [None, 1.0, None, None, None]]


def test_every_field_of_a_request_can_be_said_on_the_command_line() -> None:
    """A field of the protocol that nobody can type is a gap: each stands in a record or is a flag."""
    flags = {one.name for one in cli.OPTIONS}
    items, specs, whole = (message.DESCRIPTOR.fields_by_name.keys() for message in (GradeItem, GradeSpec, GradeRequest))
    assert set(items) <= set(FIELDS)
    assert set(items) - {"group"} <= flags, "one response is no group"
    assert {{"parameters_json": "parameters", "criteria": "parameters"}.get(name, name) for name in specs} <= flags
    assert {{"teacher": "model", "spec": "grader", "items": "records"}.get(name, name) for name in whole} <= flags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "prompt is unset"),
        (["--prompt", "a", "--from", "x"], "prompt is given twice"),
        (["--prompt", "a"], "response is unset"),
        (["--from", "x", "--reference", "b"], "reference is b"),
        (["--from", "x", "--unsure-at", "1"], "unsure_at is [1]"),
        (["--from", "x", "--out", "y", "--json"], "json is given"),
        (["--from", "x", "--param", "a"], "param is a"),
        (["--from", "/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_a_call_that_means_nothing_is_refused_before_anybody_is_asked(words, said, capsys) -> None:
    assert run(["grade", *words]) == 2
    assert said in capsys.readouterr().err
