"""The `anthropic` package against our own door for conversations."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from examples.tiny.task import load
from preceptor.config.settings import TeacherSettings
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import write_key_file
from preceptor_serving.auth.keys import mint_key
from preceptor_serving.run import RunningService
from preceptor_teacher.testing import FaultPlan
from tests.unit.preceptor_teacher.compat.test_openai_client import chatting

PROBLEM = load("heldout")[0]
ASK: Any = {"model": "judge", "max_tokens": 8, "messages": [{"role": "user", "content": PROBLEM.prompt}]}


def client(house: RunningService, path: str = "", key: str = "unused") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=f"http://127.0.0.1:{house.rest_port}{path}", api_key=key, max_retries=0)


async def test_a_conversation_reaches_the_teacher_behind_an_api():
    async with chatting() as house, client(house) as api, client(house, "/t/tutor") as named:
        told = await api.messages.create(**ASK)
        [block] = told.content
        assert block.type == "text"
        assert (told.model, told.stop_reason, PROBLEM.worked.startswith(block.text)) == ("judge", "max_tokens", True)
        assert told.usage.input_tokens > 0
        assert told.usage.output_tokens == 8
        system: Any = [{"type": "text", "text": "Add.", "cache_control": {"type": "ephemeral"}}]
        parts: Any = [{"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1"}]}]
        longer = await named.messages.create(model="any", max_tokens=8, system=system, messages=parts)
        whole: Any = [{"role": "user", "content": "1+1"}]
        plain = await named.messages.create(model="any", max_tokens=8, system="Add.", messages=whole)
        assert longer.content == plain.content, "the same text, whole and in pieces"
        assert plain.usage.input_tokens == 0, "paid for by the one before"


async def test_a_refusal_of_the_provider_is_one_here():
    async with chatting(faults=FaultPlan(script=("refusal",))) as house, client(house) as api:
        assert (await api.messages.create(**ASK)).stop_reason == "refusal"


REFUSED: list[tuple[dict[str, Any], type[anthropic.APIStatusError], str]] = [
    ({"max_tokens": 9}, anthropic.RequestTooLargeError, "max_tokens"),
    ({"extra_body": {"temperature": 0.5}}, anthropic.BadRequestError, "temperature"),
    ({"stop_sequences": ["x"]}, anthropic.BadRequestError, "stop_sequences"),
    ({"stream": True}, anthropic.BadRequestError, "stream"),
    ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, anthropic.BadRequestError, "tools"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, anthropic.BadRequestError, "thinking"),
    ({"model": "fake"}, anthropic.UnprocessableEntityError, "model"),
    ({"model": "juge"}, anthropic.NotFoundError, "model"),
]


async def test_a_conversation_that_would_be_answered_differently_is_refused():
    async with chatting() as house, client(house) as api:
        for changes, error, field in REFUSED:
            with pytest.raises(error) as refused:
                await api.messages.create(**{**ASK, **changes})
            body: Any = refused.value.body
            assert (body["type"], body["field"]) == ("error", field)
            assert field in body["error"]["message"]


async def test_its_key_is_asked_for_the_scope_grade(tmp_path):
    good, record = mint_key("acme", frozenset({Scope.GRADE}))
    scores, other = mint_key("acme", frozenset({Scope.SCORE}))
    write_key_file(tmp_path / "keys.yaml", [record, other])
    settings = TeacherSettings(grpc_port=0, rest_port=0, key_file=tmp_path / "keys.yaml")
    async with chatting(settings) as house:
        async with client(house, key=good) as api:
            assert (await api.messages.create(**ASK)).role == "assistant"
        async with client(house, key=scores) as api:
            with pytest.raises(anthropic.PermissionDeniedError):
                await api.messages.create(**ASK)
        async with client(house) as api:
            with pytest.raises(anthropic.AuthenticationError):
                await api.messages.create(**ASK)
