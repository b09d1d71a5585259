"""Vectors of a provider: held to their shape, paid, bounded and remembered like every reply, and what chunks make of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from pydantic import ValidationError

from examples.tiny.decode import load_model
from examples.tiny.tokenizer import text_ids
from preceptor.client import GradeOptions
from preceptor.errors import BudgetSpent, ConfigurationError, InvalidArgument, PreceptorError, Unavailable, Unsupported
from preceptor.planning import Price
from preceptor.types import GradeItem, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.api import ApiOptions, ChatClient
from preceptor_teacher.api.calls import NOBODY
from preceptor_teacher.api.calls.records import NANO
from preceptor_teacher.graders import Means, build_grader
from preceptor_teacher.graders.likeness import cosine
from tests.support.models import BUNDLED_TEACHER
from tests.unit.preceptor_teacher.api.test_probing import described
from tests.unit.preceptor_teacher.grading.scripted import Judge
from tests.unit.preceptor_teacher.grading.test_chat import Script
from tests.unit.preceptor_teacher.grading.test_grade_door import grade, judged

here = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
WRONG = GradeItem("478+356", "8+6+0=14 7+5+1=13 4+3+1=07 734")
SIZE = 128  # of the bundled teacher's hidden states
VECTORS = {"model": "vectors", "dimensions": SIZE}
BY_VECTORS = GradeOptions("chunks", {"chunk_words": 1, "compare": "embedding"}, "run")


def client(script: Script, **more: Any) -> ChatClient:
    known = {"base_url": "https://provider.example/v1", "model": "m", "max_attempts": 1}
    embedding = {"model": "v", "dimensions": 2, **more.pop("embedding", {})}
    return ChatClient(ApiOptions(**{**known, **more, "embedding": embedding}), transport=httpx.MockTransport(script))


def reply(*vectors: object) -> httpx.Response:
    data = [{"object": "embedding", "embedding": one} for one in vectors]
    return httpx.Response(200, content=json.dumps({"data": data, "usage": {"prompt_tokens": 3}}).encode())


def direction_of(text: str) -> torch.Tensor:
    """The mean last hidden state of the bundled teacher, straight from the model."""
    with torch.no_grad():
        out = load_model("teacher")(input_ids=torch.tensor([text_ids(text)]), output_hidden_states=True)
    return out.hidden_states[-1][0, : len(text)].double().mean(0)


@here
async def test_a_chunk_is_worth_the_cosine_of_what_the_provider_makes_of_both_sides(tmp_path: Path):
    """Of five chunks one differs: seven by eight in the last place of a sum; equal texts, and both at the end, are 1."""
    price = Price(prompt_usd_per_million=2.5, completion_usd_per_million=10.0)
    embedding = {**VECTORS, "usd_per_million": 0.5}
    async with judged(embedding=embedding, price=price, ledger_folder=tmp_path) as (house, provider):
        [verdict] = await grade(house, WRONG, options=BY_VECTORS)
        assert isinstance(verdict, Verdict), verdict
        again, *_ = await grade(house, WRONG, options=BY_VECTORS)
        seen = provider.provider.seen
        assert (seen["chat"], seen["embeddings"]) == (5, 5), "four texts of the student, and one that the provider has otherwise"
        assert (verdict.calls, again.calls, again.step_rewards) == (10, 0, verdict.step_rewards)
        metrics = await page(house.rest_port)
    cosine_of = torch.nn.functional.cosine_similarity(direction_of("4+3+1=08"), direction_of("4+3+1=07"), dim=0)
    assert float(cosine_of) < 0.99995, "hidden states of one model lie close together, and these are told apart all the same"
    assert verdict.step_rewards == pytest.approx([1.0, 1.0, float(cosine_of), 1.0, 1.0], abs=2e-6)
    assert verdict.cost_usd is not None
    embedded = sum(map(len, ("8+6+0=14", "7+5+1=13", "4+3+1=08", "4+3+1=07", "734")))
    chat = verdict.prompt_tokens - embedded
    assert verdict.cost_usd == pytest.approx((2.5 * chat + 10 * verdict.completion_tokens + 0.5 * embedded) / 1e6)
    [booked] = re.findall(r'^preceptor_provider_cost_usd_total\{teacher="judge"\} (\S+)$', metrics, re.MULTILINE)
    assert float(booked) == pytest.approx(verdict.cost_usd)


async def page(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"http://127.0.0.1:{port}/metrics")).text


BAD: list[tuple[httpx.Response, type[PreceptorError]]] = [
    (reply(), Unavailable),
    (reply([1.0, 2.0], [3.0, 4.0]), Unavailable),
    (reply([1.0, float("nan")]), Unavailable),
    (reply([1.0, float("inf")]), Unavailable),
    (reply([1.0, 10**400]), Unavailable),
    (reply([1.0, None]), Unavailable),
    (reply([1.0, True]), Unavailable),
    (reply([0.0, 0.0]), Unavailable),
    (reply("AAAA"), Unavailable),
    (reply([1.0, 2.0, 3.0]), ConfigurationError),
    (reply([]), ConfigurationError),
    (httpx.Response(200, content=reply([1.0, 2.0]).content[:20]), Unavailable),
    (httpx.Response(200, json={"data": [3]}), Unavailable),
    (httpx.Response(404), ConfigurationError),
    (httpx.Response(503), Unavailable),
]


@pytest.mark.parametrize(("bad", "error"), BAD)
async def test_what_is_no_vector_is_an_error_and_is_not_remembered(bad: httpx.Response, error: type[PreceptorError]):
    script = Script(bad, reply([3, 4.0]))
    made = client(script)
    with pytest.raises(error):
        await made.embed("a")
    good, known = await made.embed("a"), await made.embed("a")
    assert (good.vector, good.reply.prompt_tokens, good.reply.calls) == ((3.0, 4.0), 3, 1)
    assert (known.vector, known.reply.calls, len(script.requests)) == ((3.0, 4.0), 0, 2)
    sent = json.loads(script.requests[-1].content)
    assert sent == {"model": "v", "input": "a", "encoding_format": "float"}
    assert str(script.requests[-1].url) == "https://provider.example/v1/embeddings"
    await made.close()


async def test_vectors_are_paid_from_the_job_s_budget_at_their_own_price():
    price = Price(prompt_usd_per_million=5.0, completion_usd_per_million=5.0)
    made = client(Script(reply([1, 0])), price=price, job_budget_usd=9e-5, embedding={"usd_per_million": 3.0})
    assert (await made.embed("abc")).reply.cost_usd == pytest.approx(9e-6)
    [account] = await made.calls.accounts()
    assert (account.payer, account.calls, account.spent_nano / NANO) == (NOBODY, 1, pytest.approx(9e-6))
    with pytest.raises(BudgetSpent):
        await made.embed("x" * 20)  # with a template's sixteen tokens it may cost 1.08e-4
    await made.close()


async def test_azure_has_them_under_a_deployment_of_their_own():
    script = Script(reply([1, 0]))
    made = client(script, wire="azure", api_version="2026-01-01", base_url="https://provider.example")
    await made.embed("a")
    assert str(script.requests[0].url) == "https://provider.example/openai/deployments/v/embeddings?api-version=2026-01-01"
    await made.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"wire": "anthropic"},
        {"price": {"prompt_usd_per_million": 1, "completion_usd_per_million": 1}},
        {"embedding": {"model": "v", "dimensions": 2, "usd_per_million": 1}},
        {"embedding": {"model": "v", "dimensions": 0}},
        {"embedding": {"model": "v"}},
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(wrong: dict[str, Any]):
    known: dict[str, Any] = {"base_url": "https://h.example/v1", "model": "m", "embedding": {"model": "v", "dimensions": 2}}
    ApiOptions(**known)
    with pytest.raises(ValidationError):
        ApiOptions(**{**known, **wrong})


async def test_a_teacher_without_them_says_so_before_it_asks():
    request = teacher_pb2.GradeSpec(grader="chunks", parameters_json='{"compare": "embedding"}')
    with pytest.raises(Unsupported) as refused:
        build_grader(request, Means(Judge()))
    assert refused.value.field == "spec.parameters_json.compare"
    with pytest.raises(InvalidArgument):
        build_grader(teacher_pb2.GradeSpec(grader="chunks", parameters_json='{"compare": "vectors"}'), Means(Judge()))
    bare = ChatClient(ApiOptions(base_url="https://h.example/v1", model="m"))
    with pytest.raises(Unsupported):
        await bare.embed("a")
    await bare.close()


@pytest.mark.slow
@here
async def test_describe_says_what_was_named_and_where_asked_what_was_seen():
    assert not (await described(probe=False))[0].embeddings
    assert (await described(probe=False, embedding=VECTORS))[0].embeddings
    can, seen = await described(embedding=VECTORS)
    assert (can.embeddings, seen["embeddings"]) == (True, 1)
    assert not (await described(embedding={**VECTORS, "dimensions": 3}))[0].embeddings


def test_the_cosine_is_held_within_a_share():
    assert cosine([1, 0], [3, 4]) == pytest.approx(0.6)
    assert (cosine([1, 2], [1, 2]), cosine([1, 0], [0, 1]), cosine([1, 1], [-1, -1])) == (pytest.approx(1.0), 0.0, 0.0)
    assert cosine([0.1] * 7, [0.1] * 7) <= 1.0


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e200, 1e308])
def test_the_cosine_does_not_know_how_long_a_vector_is(scale: float):
    assert cosine([scale, -scale], [scale, -scale]) == pytest.approx(1.0)
    assert cosine([scale, -scale], [scale, scale]) == 0.0
    assert cosine([scale, scale], [1.0, 0.0]) == pytest.approx(0.5**0.5)
