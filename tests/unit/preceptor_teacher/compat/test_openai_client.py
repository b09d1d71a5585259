"""The `openai` package against the OpenAI door: models, completions, a conversation, errors, and every way to bring a key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from preceptor.config.settings import TeacherSettings
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import write_key_file
from preceptor_serving.auth.keys import mint_key
from preceptor_serving.run import RunningService, running
from preceptor_teacher.api import ApiOptions
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import FaultPlan, standing_in
from tests.unit.preceptor_teacher.compat.house import close, distribution
from tests.unit.preceptor_teacher.test_service import inline, spec, teacher

TINY = Path(__file__).parents[4] / "examples" / "tiny" / "teacher"
IDS = [5, 9, 2, 33]


def client(house: RunningService, path: str = "/v1", key: str = "unused", **how: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{house.rest_port}{path}", api_key=key, max_retries=0, **how)


async def test_models_and_completions_through_the_package():
    async with teacher() as house, client(house) as api:
        listed = [model.id async for model in api.models.list()]
        assert listed == ["fake", "default"]
        assert (await api.models.retrieve("default")).id == "default"
        told = await api.completions.create(model="fake", prompt=IDS, max_tokens=0, echo=True, logprobs=1)
        lists = told.choices[0].logprobs
        assert lists is not None
        assert lists.token_logprobs is not None
        assert lists.token_logprobs[0] is None
        for position in range(1, len(IDS)):
            assert close(lists.token_logprobs[position], distribution(IDS, position)[IDS[position]])
        extra = await api.completions.create(model="fake", prompt=IDS, max_tokens=1, extra_body={"prompt_logprobs": 1})
        assert extra.choices[0].model_extra is not None
        assert len(extra.choices[0].model_extra["prompt_logprobs"]) == len(IDS)
        assert extra.usage is not None
        assert extra.usage.total_tokens == len(IDS) + 1


async def test_refusals_arrive_as_the_packages_own_errors():
    async with teacher() as house, client(house) as api:
        with pytest.raises(openai.BadRequestError) as refused:
            await api.completions.create(model="fake", prompt="text", max_tokens=1, logprobs=1)
        assert (refused.value.param, refused.value.code) == ("prompt", "INVALID_ARGUMENT")
        with pytest.raises(openai.NotFoundError, match="did you mean 'fake'"):
            await api.completions.create(model="fakes", prompt=IDS, max_tokens=1)
        with pytest.raises(openai.UnprocessableEntityError, match="scores token ids; it does not chat"):
            await api.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hello"}])


@asynccontextmanager
async def chatting(settings: TeacherSettings | None = None, faults: FaultPlan | None = None) -> AsyncGenerator[RunningService]:
    """A teacher that scores beside one behind an API, whose provider is the bundled stand-in."""
    async with standing_in(TINY, name="judge", faults=faults) as provider:
        options = ApiOptions(base_url=provider.base_url, model="judge", max_reply_tokens=8, private_hosts=("127.0.0.1",))
        judge = JudgeSpec("judge", options, ("tutor",))
        service = TeacherService([spec("fake"), judge], inline)
        async with running(service, settings or TeacherSettings(grpc_port=0, rest_port=0)) as house:
            yield house


@asynccontextmanager
async def judged() -> AsyncGenerator[AsyncOpenAI]:
    async with chatting() as house, client(house) as api:
        yield api


async def test_a_conversation_reaches_the_teacher_behind_an_api():
    async with judged() as api:
        told = await api.chat.completions.create(
            model="tutor", messages=[{"role": "user", "content": "What is one and one?"}], max_tokens=4, temperature=0
        )
        assert told.model == "tutor"
        assert told.choices[0].message.content
        assert told.usage is not None
        assert told.usage.completion_tokens <= 4
        assert [model.id async for model in api.models.list()] == ["fake"], "those that score"


async def test_a_refusal_of_the_provider_is_one_here():
    async with chatting(faults=FaultPlan(script=("refusal",))) as house, client(house) as api:
        told = await api.chat.completions.create(model="judge", messages=[{"role": "user", "content": "?"}], max_tokens=4)
        assert told.choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_tokens": 9}, "max_tokens"),
        ({"temperature": 0.5}, "temperature"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"stream": True}, "stream"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_completion_tokens"),
        ({"model": "fake"}, "model"),
    ],
)
async def test_a_conversation_that_would_be_answered_differently_is_refused(changes, field):
    async with judged() as api:
        asked: dict[str, Any] = {"model": "judge", "messages": [{"role": "user", "content": "?"}], **changes}
        with pytest.raises(openai.APIStatusError) as refused:
            await api.chat.completions.create(**asked)
        assert refused.value.response.json()["field"] == field


async def test_a_key_comes_as_bearer_in_the_path_or_as_user_info_and_is_told_to_nobody(tmp_path, capfd):
    key, record = mint_key("acme", frozenset({Scope.SCORE}))
    bound, bound_record = mint_key("acme", frozenset({Scope.STATUS}))
    write_key_file(tmp_path / "keys.yaml", [record, bound_record])
    settings = TeacherSettings(grpc_port=0, rest_port=0, key_file=tmp_path / "keys.yaml")
    async with running(TeacherService([spec("fake")], inline), settings) as house:
        async with (
            client(house, key=key) as bearer,
            client(house, f"/k/{key}/v1") as path,
            client(house, f"/k/{key}/t/fake/v1") as named,
        ):
            for api in (bearer, path, named):
                assert [model.id async for model in api.models.list()] == ["fake"]
                await api.completions.create(model="fake", prompt=IDS, max_tokens=1)
        async with client(house, key="wrong") as wrong, client(house, key=bound) as other:
            with pytest.raises(openai.AuthenticationError) as refused:
                await wrong.models.list()
            assert refused.value.code == "UNAUTHENTICATED"
            with pytest.raises(openai.PermissionDeniedError):
                await other.completions.create(model="fake", prompt=IDS, max_tokens=1)
    written = "".join(capfd.readouterr())
    assert "POST /v1/completions" in written
    assert not any(one in written for one in (key, bound))


async def test_quotas_bind_these_doors_as_they_bind_the_others(tmp_path):
    key, record = mint_key("acme", frozenset({Scope.SCORE}))
    path = tmp_path / "keys.yaml"
    write_key_file(path, [record])
    _limit(path)
    settings = TeacherSettings(grpc_port=0, rest_port=0, key_file=path)
    async with running(TeacherService([spec("fake")], inline), settings) as house, client(house, key=key) as api:
        await api.completions.create(model="fake", prompt=IDS, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as refused:
            await api.completions.create(model="fake", prompt=list(reversed(IDS)), max_tokens=1)
        assert refused.value.response.json()["field"] == "quota.tokens_per_minute"
        assert int(refused.value.response.headers["retry-after"]) >= 1


def _limit(path: Path) -> None:
    """Six tokens a minute for acme."""
    limit = ["keys", "limit", "acme", "--key-file", str(path), "--tokens-per-minute", "6"]
    subprocess.run([sys.executable, "-m", "preceptor", *limit], check=True, capture_output=True)
