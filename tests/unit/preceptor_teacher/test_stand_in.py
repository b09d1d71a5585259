"""The stand-in provider: the OpenAI shape over real sockets, and verdicts that come from the model's own answer."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from examples.tiny.task import load
from preceptor.errors import ConfigurationError
from preceptor.types import GradeItem
from preceptor_teacher.graders.verbal import ask_for
from preceptor_teacher.graders.verdicts import NoVerdict, read_score, schema_of
from preceptor_teacher.testing import FAULTS, FaultPlan, StandIn, standing_in
from preceptor_teacher.testing.judging import agreement, read_judging
from preceptor_teacher.testing.shapes import few_instances
from preceptor_teacher.testing.writer import Writer
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
PROBLEM = load("heldout")[0]


@asynccontextmanager
async def provider(**options) -> AsyncGenerator[tuple[StandIn, httpx.AsyncClient]]:
    async with (
        standing_in(BUNDLED_TEACHER, **options) as served,
        httpx.AsyncClient(base_url=served.base_url, trust_env=False, timeout=30) as http,
    ):
        yield served, http


def chat(*contents: str, **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in contents], **more}


async def test_models_chat_and_completions_have_the_shape_that_clients_of_openai_read():
    async with provider(name="tutor") as (_, http):
        models = (await http.get("/models")).json()
        assert [one["id"] for one in models["data"]] == ["tutor"]
        answer = (await http.post("/chat/completions", json=chat(PROBLEM.prompt, temperature=0, seed=3))).json()
        [choice] = answer["choices"]
        assert choice["message"] == {"role": "assistant", "content": PROBLEM.worked, "refusal": None}
        assert (answer["object"], choice["finish_reason"], answer["model"]) == ("chat.completion", "stop", "tutor")
        wrote = len(PROBLEM.worked) + 1  # one token a byte, and the end
        assert answer["usage"] == {
            "prompt_tokens": len(PROBLEM.prompt) + 3,
            "completion_tokens": wrote,
            "total_tokens": len(PROBLEM.prompt) + 3 + wrote,
        }
        short = (await http.post("/chat/completions", json=chat(PROBLEM.prompt, max_tokens=4))).json()
        assert (short["choices"][0]["message"]["content"], short["choices"][0]["finish_reason"]) == (PROBLEM.worked[:4], "length")
        parts = [{"type": "text", "text": PROBLEM.prompt[:3]}, {"type": "text", "text": PROBLEM.prompt[3:]}]
        split = (
            await http.post("/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": parts}]})
        ).json()
        assert split["choices"][0]["message"]["content"] == PROBLEM.worked
        plain = (await http.post("/completions", json={"model": "m", "prompt": ["a", "b"], "max_tokens": 2})).json()
        assert [one["index"] for one in plain["choices"]] == [0, 1]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/chat/completions", chat("1+1", logprobs=True, top_logprobs=21), "top_logprobs"),
        ("/chat/completions", chat("1+1", n=2), "n"),
        ("/completions", {"model": "m", "prompt": "1", "stream": True}, "stream"),
        ("/messages", {"model": "m", "messages": [{"role": "user", "content": "1"}]}, "max_tokens"),
        ("/chat/completions", {"model": "m", "messages": []}, "messages"),
        ("/completions", {"model": "m", "prompt": "1", "logprobs": 21}, "logprobs"),
    ],
)
async def test_what_it_cannot_do_is_refused_and_not_pretended(path, body, field):
    async with provider() as (_, http):
        reply = await http.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(field)


async def test_a_verdict_is_what_the_models_own_answer_agrees_with():
    first, *_, answer = PROBLEM.worked.split()
    responses = {PROBLEM.worked: 10, PROBLEM.worked.replace(f" {answer}", " 1"): 8, first: 2, "": 0, PROBLEM.worked + " x": 8}
    async with provider() as (served, http):
        for response, score in responses.items():
            question = ask_for(GradeItem(PROBLEM.prompt, response))
            reply = (await http.post("/chat/completions", json={"model": "m", "messages": question.messages})).json()
            text = reply["choices"][0]["message"]["content"]
            assert json.loads(text) == {"request": question.number, "score": score}, response
        assert served.provider.seen["judged"] == len(responses)


def test_agreement_counts_steps_in_their_places():
    assert agreement("a b c d", "a b c d") == 10
    assert agreement("a b c d", "b a c d") == 5
    assert agreement("a b", "a b c d") == 5
    assert agreement("", "") == 0


def test_a_text_that_asks_for_no_verdict_is_no_judging():
    assert read_judging("3+4") is None
    assert read_judging('Answer {"request": "ab", "score": N}') is None


async def test_faults_come_in_the_order_of_the_script_and_then_by_share():
    async with provider(faults=FaultPlan(script=("rate_limited", "", "server_error"))) as (served, http):
        replies = [await http.post("/chat/completions", json=chat("1+1", max_tokens=1)) for _ in range(4)]
        assert [reply.status_code for reply in replies] == [429, 200, 503, 200]
        assert replies[0].headers["retry-after"] == "1"
        assert (served.provider.seen["rate_limited"], served.provider.seen["server_error"]) == (1, 1)
    plan = FaultPlan({"rate_limited": 0.25, "hang": 0.25}, seed=1)
    drawn = [plan.next() for _ in range(4000)]
    assert 900 < drawn.count("hang") < 1100
    assert 1900 < drawn.count("") < 2100
    with pytest.raises(ConfigurationError):
        FaultPlan({"rain": 0.5})
    assert {"truncated", "slow", "refusal", "malformed_tool_call", "expired_key"} <= set(FAULTS)


async def test_a_key_is_asked_for_where_one_is_set():
    async with provider(api_key="sesame-sesame") as (_, http):
        assert (await http.get("/models")).status_code == 401
        assert (await http.get("/models", headers={"authorization": "Bearer sesame-sesame"})).status_code == 200


async def test_a_model_that_judges_itself_chooses_among_the_verdicts_of_the_schema():
    async with standing_in(BUNDLED_TEACHER, plays_judge=False) as served:
        question = ask_for(GradeItem(PROBLEM.prompt, PROBLEM.worked))
        shape = {"type": "json_schema", "json_schema": {"name": "v", "schema": schema_of(question.number)}}
        async with httpx.AsyncClient(base_url=served.base_url, trust_env=False, timeout=30) as http:
            body = {"model": "m", "messages": question.messages, "max_tokens": 4}
            told = await http.post("/chat/completions", json={**body, "response_format": shape})
            as_it_writes = await http.post("/chat/completions", json=body)
    assert 0 <= read_score(told.json()["choices"][0]["message"]["content"], question.number) <= 10
    with pytest.raises(NoVerdict):
        read_score(as_it_writes.json()["choices"][0]["message"]["content"], question.number)
    assert served.provider.seen["judged"] == 0


async def test_the_chosen_text_is_the_one_that_is_written_greedily_among_those_left():
    writer = Writer(BUNDLED_TEACHER)
    prompt = writer.render([{"role": "user", "content": PROBLEM.prompt}])
    own = (await writer.write(prompt, 64)).text
    assert await writer.choose(prompt, [own[:1] + "?", own, "?" + own]) == own
    assert await writer.choose(prompt, ["=1"]) == "=1"
    digits = [f"{n}=" for n in range(10)]
    first = (await writer.read((*prompt, *writer.encode("0")), 20))[-1].top  # what stands behind the prompt, likeliest first
    assert await writer.choose(prompt, digits) == next(text for text, _ in first if text.isdigit()) + "="
    writer.close()


def test_values_are_listed_where_a_schema_allows_few():
    assert few_instances(schema_of("ab")) == [{"request": "ab", "score": n} for n in range(11)]
    both = {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}}
    assert few_instances({"type": "object", "properties": both, "required": ["a", "b"]}) == [
        {"a": a, "b": b} for a in "xy" for b in (False, True)
    ]
    for open_ended in ({"type": "string"}, {"type": "integer"}, {"type": "integer", "minimum": 0, "maximum": 1000}, {}):
        assert few_instances(open_ended) == []
        assert few_instances({"type": "object", "properties": {"a": open_ended}, "required": ["a"]}) == []
