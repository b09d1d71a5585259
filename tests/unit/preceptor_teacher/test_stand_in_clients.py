"""The packages of OpenAI and Anthropic talk to the stand-in as they talk to their own providers."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

from examples.tiny.task import load
from preceptor.errors import ConfigurationError, Exhausted, Unavailable
from preceptor_teacher.api import ApiOptions, ChatClient, Message
from preceptor_teacher.testing import FaultPlan, StandIn, standing_in
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
KEY = "sk-canary-0011223344556677"
PROBLEM = load("heldout")[0]
ASK: Any = [{"role": "user", "content": PROBLEM.prompt}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}, "kind": {"enum": ["sum"]}},
    "required": ["answer", "sure", "kind"],
    "additionalProperties": False,
}


@asynccontextmanager
async def provider(*script: str) -> AsyncGenerator[StandIn]:
    async with standing_in(BUNDLED_TEACHER, name="tutor", api_key=KEY, faults=FaultPlan(script=script)) as served:
        yield served


def openai_of(served: StandIn, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=served.base_url, api_key=key, max_retries=0)


def anthropic_of(served: StandIn, key: str = KEY) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=served.root_url, api_key=key, max_retries=0)


async def test_openai_talks_streams_and_reads_log_probabilities():
    async with provider() as served, openai_of(served) as api:
        assert [model.id async for model in api.models.list()] == ["tutor"]
        whole = await api.chat.completions.create(model="tutor", messages=ASK, logprobs=True, top_logprobs=3)
        choice = whole.choices[0]
        assert choice.message.content == PROBLEM.worked
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert "".join(token.token for token in choice.logprobs.content) == PROBLEM.worked
        for token in choice.logprobs.content:
            assert token.logprob == token.top_logprobs[0].logprob, "greedy"
            assert math.fsum(math.exp(one.logprob) for one in token.top_logprobs) <= 1 + 1e-6
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await api.chat.completions.create(model="tutor", messages=ASK, **options)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == PROBLEM.worked
        assert chunks[-1].usage == whole.usage


async def test_openai_gets_a_value_of_its_schema_and_the_same_draws_for_the_same_seed():
    async with provider() as served, openai_of(served) as api:
        shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
        told = await api.chat.completions.create(model="tutor", messages=ASK, response_format=shape)
        assert json.loads(told.choices[0].message.content or "") == {"answer": PROBLEM.worked, "sure": False, "kind": "sum"}
        drawn = [
            (await api.chat.completions.create(model="tutor", messages=ASK, temperature=2.0, seed=seed))
            .choices[0]
            .message.content
            for seed in (1, 1, 2)
        ]
        assert drawn[0] == drawn[1] != drawn[2]


async def test_an_echo_scores_what_was_given_as_text_and_as_ids():
    async with provider() as served, openai_of(served) as api:
        text = f"{PROBLEM.prompt}{PROBLEM.worked}"
        by_text = await api.completions.create(model="tutor", prompt=text, max_tokens=0, echo=True, logprobs=2)
        lists = by_text.choices[0].logprobs
        assert lists is not None
        assert lists.token_logprobs is not None
        assert (by_text.choices[0].text, lists.token_logprobs[0]) == (text, None)
        assert lists.tokens is not None
        assert "".join(lists.tokens) == text
        assert all(value <= 0 for value in lists.token_logprobs[1:])
        ids = [byte + 5 for byte in text.encode()]  # the bundled pair's tokens are bytes
        by_ids = await api.completions.create(model="tutor", prompt=ids, max_tokens=0, echo=True, logprobs=2)
        assert by_ids.choices[0].logprobs == lists


async def test_azure_is_reached_by_its_own_path_and_header():
    async with provider() as served:
        api = openai.AsyncAzureOpenAI(
            azure_endpoint=served.root_url, api_key=KEY, api_version="2026-01-01", max_retries=0, azure_deployment="tutor"
        )
        async with api:
            told = await api.chat.completions.create(model="tutor", messages=ASK)
        assert told.choices[0].message.content == PROBLEM.worked


async def test_anthropic_talks_streams_and_counts_its_cache():
    async with provider() as served, anthropic_of(served) as api:
        system: Any = [{"type": "text", "text": "Answer.", "cache_control": {"type": "ephemeral"}}]
        first, second = [await api.messages.create(model="tutor", max_tokens=64, messages=ASK, system=system) for _ in range(2)]
        assert (first.stop_reason, first.content) == (second.stop_reason, second.content)
        assert (first.usage.cache_creation_input_tokens, first.usage.cache_read_input_tokens) == (len("Answer."), 0)
        assert (second.usage.cache_creation_input_tokens, second.usage.cache_read_input_tokens) == (0, len("Answer."))
        plain = await api.messages.create(model="tutor", max_tokens=64, messages=ASK)
        assert plain.content[0].to_dict()["text"] == PROBLEM.worked
        async with api.messages.stream(model="tutor", max_tokens=64, messages=ASK) as stream:
            assert "".join([text async for text in stream.text_stream]) == PROBLEM.worked
            assert (await stream.get_final_message()).usage.output_tokens == plain.usage.output_tokens
        config: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
        shaped = await api.messages.create(model="tutor", max_tokens=64, messages=ASK, output_config=config)
        assert json.loads(str(shaped.content[0].to_dict()["text"]))["answer"] == PROBLEM.worked


async def test_faults_arrive_as_the_packages_own_errors():
    faults = ("rate_limited", "server_error", "expired_key", "truncated")
    async with provider(*faults) as served, openai_of(served) as api, openai_of(served, "wrong") as stranger:
        for error in (openai.RateLimitError, openai.InternalServerError, openai.AuthenticationError, Exception):
            with pytest.raises(error):
                await api.chat.completions.create(model="tutor", messages=ASK)
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="tutor", messages=ASK)
    async with provider("rate_limited", "server_error", "expired_key", "refusal") as served, anthropic_of(served) as api:
        for error in (anthropic.RateLimitError, anthropic.InternalServerError, anthropic.AuthenticationError):
            with pytest.raises(error):
                await api.messages.create(model="tutor", max_tokens=8, messages=ASK)
        assert (await api.messages.create(model="tutor", max_tokens=8, messages=ASK)).stop_reason == "refusal"


WIRES: list[dict[str, Any]] = [
    {"wire": "openai"},
    {"wire": "anthropic"},
    {"wire": "azure", "api_version": "2026-01-01"},
    {"wire": "openai-completions"},
]


@asynccontextmanager
async def ours(served: StandIn, wire: dict[str, Any], **more: Any) -> AsyncGenerator[ChatClient]:
    base = served.root_url if wire["wire"] == "azure" else served.base_url
    options = ApiOptions(base_url=base, model="tutor", api_key_env="KEY", private_hosts=("127.0.0.1",), **wire, **more)
    client = ChatClient(options, options.key({"KEY": KEY}))
    yield client
    await client.close()


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire["wire"])
async def test_our_client_speaks_each_wire_format(wire):
    async with provider() as served, ours(served, wire) as client:
        asked: list[Message] = [{"role": "user", "content": PROBLEM.prompt}]
        reply = await client.complete(asked, max_tokens=64)
        assert (reply.refused, reply.calls, reply.completion_tokens > 0, reply.prompt_tokens > 0) == (False, 1, True, True)
        if wire["wire"] != "openai-completions":  # there is no template around a plain prompt
            assert (reply.text, reply.finish_reason) == (PROBLEM.worked, "stop")
            shaped = await client.complete(asked, SCHEMA, max_tokens=64)
            assert json.loads(shaped.text)["answer"] == PROBLEM.worked
        short = await client.complete(asked, max_tokens=2)
        assert short.finish_reason == "length"


async def test_what_a_judge_is_told_each_time_is_read_from_anthropics_prompt_cache_at_its_discount():
    price = {"prompt_usd_per_million": 10.0, "completion_usd_per_million": 0.0, "cached_prompt_usd_per_million": 1.0}
    async with provider() as served, ours(served, WIRES[1], price=price) as client:
        rules: Message = {"role": "system", "content": "Answer with the sum. " * 8}
        first, second = [
            await client.complete([rules, {"role": "user", "content": text}], max_tokens=2) for text in ("1+2", "2+1")
        ]
    assert first.prompt_tokens == second.prompt_tokens
    assert (first.cached_tokens, 0 < second.cached_tokens < second.prompt_tokens) == (0, True)
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert second.cost_usd == pytest.approx(first.cost_usd - second.cached_tokens * 9e-6)


@pytest.mark.parametrize("wire", WIRES[:2], ids=lambda wire: wire["wire"])
async def test_our_client_tells_bad_days_apart(wire):
    asked: list[Message] = [{"role": "user", "content": PROBLEM.prompt}]
    script = ("refusal", "malformed_tool_call", "truncated", "rate_limited", "server_error", "expired_key")
    async with provider(*script) as served, ours(served, wire, max_attempts=1, timeout_s=2) as client:
        refused = await client.complete(asked, max_tokens=8)
        tool = await client.complete(asked, max_tokens=9)
        assert (refused.refused, tool.refused, tool.text) == (True, False, "")
        for error, words in ((Unavailable, "JSON"), (Exhausted, "429"), (Unavailable, "503"), (ConfigurationError, "401")):
            with pytest.raises(error, match=words):
                await client.complete(asked, max_tokens=10)
        assert served.provider.seen["messages" if wire["wire"] == "anthropic" else "chat"] == 6


async def test_a_reply_that_comes_drop_by_drop_is_cut_off_in_time():
    async with provider("slow") as served, ours(served, WIRES[0], max_attempts=1, timeout_s=0.5) as client:
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            await client.complete([{"role": "user", "content": PROBLEM.prompt}])
