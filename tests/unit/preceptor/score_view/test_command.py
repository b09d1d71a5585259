"""`preceptor score` against a real rollout service and a real teacher: the bundled pair."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.tiny.decode import MODEL_DIRS
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor.cli import run
from preceptor.cli import score as cli
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.config import TeacherSettings
from preceptor.types import Sequence, Want
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import RunningService, running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService
from tests.unit.preceptor_rollout.serving import serving

PROMPT, RESPONSE = "859+827", "9+7=16"


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What the command prints, without the log lines that services in this process write to the same stdout."""
    lines: list[str] = []
    monkeypatch.setattr(cli, "print", lines.append, raising=False)
    monkeypatch.setattr(cli, "quiet_logs", lambda _: None)
    return lines


@asynccontextmanager
async def pair(engine: str = "hf", **options: Any) -> AsyncGenerator[tuple[RunningService, list[str]]]:
    """Both services, and the flags that lead to them."""
    chosen = {"folder": str(MODEL_DIRS["teacher"])} if engine == "hf" else options
    spec = TeacherSpec(EngineSpec("tutor", engine, {"name": "tutor", **chosen}))
    teacher = running(TeacherService((spec,), in_this_process), TeacherSettings(grpc_port=0, rest_port=0))
    async with serving() as (student, _), teacher as house:
        yield house, ["--rollout", f"127.0.0.1:{student.grpc_port}", "--teacher", f"127.0.0.1:{house.grpc_port}"]


async def score(*words: str) -> int:
    return await asyncio.to_thread(run, ["score", *words])


async def test_rows_are_what_the_teacher_says_of_the_same_ids(told):
    async with pair() as (house, flags):
        assert await score(*flags, "--prompt", PROMPT, "--response", RESPONSE, "--top", "2", "--json") == 0
        sequence = Sequence.of(prompt_ids(PROMPT), text_ids(RESPONSE))
        async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
            [expected] = await client.score("tutor", [ScoreItem(sequence, Want(sampled=True, topk=2))])
        rows = [json.loads(line) for line in told]
        assert [row["text"] for row in rows] == list(RESPONSE)
        assert [row["teacher_logprob"] for row in rows] == [float(one) for one in expected.rows.sampled]
        assert [[one["id"] for one in row["top"]] for row in rows] == expected.rows.topk.ids.tolist()
        assert {row["student_logprob"] for row in rows} == {None}

        told.clear()  # the student answers, and its own view is there; the same seed draws the same answer
        for _ in range(2):
            assert await score(*flags, "--prompt", PROMPT, "--by", "disagreement", "--seed", "3", "--max-new-tokens", "8") == 0
        assert told[: len(told) // 2] == told[len(told) // 2 :]
        header, first, *_ = (line.split("\t") for line in told)
        row = dict(zip(header, first, strict=True))
        assert abs(float(row["student"]) - float(row["teacher"]) - float(row["disagreement"])) < 2e-4


async def test_records_from_stdin_are_scored_as_they_stand(told, monkeypatch):
    record = {"context": prompt_ids(PROMPT), "response": text_ids(RESPONSE), "logprob_policy": [-1.0] * len(RESPONSE)}
    async with pair() as (_, flags):
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(record)))
        assert await score(*flags, "--from", "-", "--by", "disagreement", "--json") == 0
        rows = [json.loads(line) for line in told]
        assert [row["disagreement"] for row in rows] == [-1.0 - row["teacher_logprob"] for row in rows]


async def test_a_teacher_of_another_tokenizer_refuses(told, capsys):
    async with pair("fake") as (_, flags):
        assert await score(*flags, "--prompt", PROMPT, "--max-new-tokens", "4") == 2
    assert "WRONG_PAIR" in capsys.readouterr().err
    assert told == []


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "prompt is unset"),
        (["--prompt", "a", "--from", "x"], "prompt is given twice"),
        (["--prompt", "a", "--by", "colour"], "by is colour"),
        (["--prompt", "a", "--top", "-1"], "top is -1"),
        (["--prompt", "a", "--seed", "-1"], "seed is -1"),
        (["--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--prompt", "a", "--response", "b", "--seed", "0"], "seed is 0"),
        (["--prompt", "a", "--response", "b", "--by", "disagreement"], "by is disagreement"),
        (["--from", "x", "--raw"], "raw is True"),
        (["--from", "x", "--run", "r"], "run is r"),
    ],
)
def test_a_flag_that_would_mean_nothing_is_refused_before_anybody_is_asked(words, field, capsys):
    assert run(["score", *words]) == 2
    assert f"CONFIGURATION: {field}" in capsys.readouterr().err
