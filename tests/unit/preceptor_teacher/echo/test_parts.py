"""Replies of every kind to the `echo` engine: what a server leaves out is missing, and what it cannot do it is not asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, PreceptorError, Unavailable
from preceptor.types import Scored, ScoreItem, Sequence, Validity, Want
from preceptor_serving.engines.plan import RowPlan
from preceptor_teacher.engines.echo.dialects import DIALECTS, Position
from preceptor_teacher.engines.echo.engine import EchoEngine
from preceptor_teacher.engines.echo.options import EchoOptions
from preceptor_teacher.engines.echo.rows import rows_of
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
KEY = "sk-canary-8899aabbccddeeff"
PLAIN = Sequence.of([1, 2], [3, 4, 5])
Answer = Callable[[dict[str, Any]], httpx.Response]


def vllm(body: dict[str, Any], *, most: int = 20, leave_out: frozenset[int] = frozenset()) -> httpx.Response:
    """A server of the dialect whose ids have the log-probability -(id + 1); it lists at most so many, and leaves out some."""
    asked = body["prompt_logprobs"]
    if asked > most:
        return httpx.Response(400, json={"error": {"code": "invalid_request_error"}})
    listed = [{one: {"logprob": -(one + 1.0)} for one in {*range(asked), token} - leave_out} for token in body["prompt"]]
    return httpx.Response(200, json={"choices": [{"prompt_logprobs": [None, *listed[1:]]}]})


def openai(body: dict[str, Any], **_: Any) -> httpx.Response:
    values = [None, *(-(token + 1.0) for token in body["prompt"][1:]), -0.5]
    return httpx.Response(200, json={"choices": [{"logprobs": {"token_logprobs": values}}]})


def engine(answer: Answer, dialect: str = "vllm", **more: Any) -> tuple[EchoEngine, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(json.loads(request.content))

    shared: dict[str, Any] = {"name": "far", "folder": BUNDLED_TEACHER, "base_url": "https://h.example/v1", "model": "m"}
    options = EchoOptions(**shared, dialect=dialect, max_sequence_tokens=99, **more)  # pyright: ignore[reportArgumentType]
    return EchoEngine(options, httpx.MockTransport(reply)), seen


def one(made: EchoEngine, want: Want, sequence: Sequence = PLAIN) -> Scored | PreceptorError:
    [outcome] = made.score([ScoreItem(sequence, want)])
    return outcome


def scored(made: EchoEngine, want: Want) -> Scored:
    outcome = one(made, want)
    assert isinstance(outcome, Scored), outcome
    return outcome


def test_the_cap_is_what_the_server_gives():
    made, seen = engine(lambda body: vllm(body, most=5), max_topk=50)
    assert made.describe()[0].capabilities.max_topk == 5
    assert [json.loads(request.content)["prompt_logprobs"] for request in seen] == [50, 20, 5]
    made.close()


def test_entries_that_are_left_out_are_missing_and_so_is_a_row_without_its_token():
    left_out = frozenset({1, 4})
    made, _ = engine(lambda body: vllm(body, leave_out=left_out if len(body["prompt"]) == 5 else frozenset()))
    rows = scored(made, Want(sampled=True, topk=3)).rows
    assert rows.validity.tolist() == [Validity.OK, Validity.MISSING_PROVIDER, Validity.OK]
    assert rows.sampled is not None
    assert rows.topk is not None
    np.testing.assert_array_equal(rows.sampled, [-4, np.nan, -6])
    np.testing.assert_array_equal(rows.topk.logprobs, [[-1, -3, -4], [np.nan] * 3, [-1, -3, -6]])
    assert rows.topk.ids[0].tolist() == [0, 2, 3]
    assert all(len(set(ids)) == 3 for ids in rows.topk.ids.tolist())
    only_lists = scored(made, Want(topk=3)).rows
    assert only_lists.topk is not None
    np.testing.assert_array_equal(only_lists.topk.logprobs[1], [-1, -3, np.nan])
    assert only_lists.validity.tolist() == [Validity.OK] * 3
    made.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (httpx.Response(404), ConfigurationError),
        (httpx.Response(401, json={"error": {"message": KEY}}), ConfigurationError),
        (httpx.Response(200, json={"choices": [{"text": "hello", "logprobs": None}]}), Unavailable),
        (httpx.Response(200, json={"choices": [{"prompt_logprobs": [None, {}, {}, {}]}]}), ConfigurationError),
        (httpx.Response(200, json={"choices": [{"prompt_logprobs": [None, {}]}]}), Unavailable),
        (httpx.Response(200, json={"choices": [{"prompt_logprobs": 3}]}), Unavailable),
    ],
)
def test_a_server_that_does_not_score_what_it_is_given_is_no_teacher(
    reply: httpx.Response, error: type[PreceptorError], monkeypatch
):
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    again = {"headers": reply.headers, "content": reply.content}
    with pytest.raises(error) as refused:
        engine(lambda _: httpx.Response(reply.status_code, **again), max_attempts=1, api_key_env="PROVIDER_KEY")
    assert KEY not in repr(refused.value) + refused.value.hint


def test_a_server_that_scores_texts_alone_as_together_does_is_no_teacher_of_ids():
    """Its reply holds the prompt's tokens beside the choices, whose values are of what was written: they are not taken for the
    prompt's. Text is never sent in place of ids, so it can serve a judge and no scores."""

    def together(body: dict[str, Any]) -> httpx.Response:
        assert body["prompt"] == [0, 1, 2, 3]
        prompt = {"text": "abcd", "logprobs": {"tokens": list("abcd"), "token_logprobs": [None, -1.0, -2.0, -3.0]}}
        written = {"text": "e", "finish_reason": "length", "logprobs": {"tokens": ["e"], "token_logprobs": [-0.5]}}
        return httpx.Response(200, json={"object": "text.completion", "prompt": [prompt], "choices": [written]})

    with pytest.raises(Unavailable, match="1 values for 4 tokens"):
        engine(together, "openai", max_attempts=1)
    error = {"error": {"type": "invalid_request_error", "message": "prompt: expected a string", "param": "prompt", "code": None}}
    with pytest.raises(ConfigurationError, match=r"422 \(invalid_request_error\)"):
        engine(lambda _: httpx.Response(422, json=error), "openai")


def test_what_may_pass_is_asked_again_and_what_cannot_is_the_items_alone(monkeypatch):
    bad = iter([httpx.Response(503), httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(200, content=b"<")])
    monkeypatch.setattr("preceptor_teacher.api.retries.FIRST_PAUSE_S", 0.001)

    def answer(body: dict[str, Any]) -> httpx.Response:
        if body["prompt"] == [9, 9]:
            return httpx.Response(400)
        return openai(body) if len(body["prompt"]) == 4 else next(bad, openai(body))

    made, seen = engine(answer, "openai", max_attempts=4)
    rejected, good = made.score([ScoreItem(Sequence.of([9], [9]), Want(sampled=True)), ScoreItem(PLAIN, Want(sampled=True))])
    assert isinstance(rejected, ConfigurationError)
    assert isinstance(good, Scored)
    assert good.rows.sampled is not None
    assert good.rows.sampled.tolist() == [-4, -5, -6]
    assert len(seen) == 1 + 1 + 4
    assert scored(made, Want(sampled=True)).receipt.tokens_computed == 5
    made.close()


def test_zero_is_zero_and_what_is_no_logarithm_of_a_probability_is_missing():
    values = [None, -9999.0, 0.0, 0.5, True, "x", float("-1e300")]
    body: dict[str, Any] = {"choices": [{"logprobs": {"token_logprobs": values}}]}
    found = [position.own for position in DIALECTS["openai"].read(body, range(7))]
    np.testing.assert_array_equal(found, [np.nan, -np.inf, 0, np.nan, np.nan, np.nan, -np.inf])
    with pytest.raises(Unavailable, match="other tokens"):
        DIALECTS["sglang"].read({"meta_info": {"input_token_logprobs": [[None, 7, None], [-1.0, 9, None]]}}, [7, 8])


@given(
    st.lists(st.dictionaries(st.integers(0, 11), st.sampled_from([-1.0, -2.0, -math.inf, math.nan])), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_lists_are_the_likeliest_real_ids_in_order_each_once(tops: list[dict[int, float]], k: int):
    positions = [Position(-1.0, top) for top in tops]
    plan = RowPlan(0, np.arange(len(tops)), np.zeros(len(tops), np.int64), has_next=False, candidates=None)
    rows = rows_of(positions, plan, Want(topk=k), 8)
    assert rows.topk is not None
    for ids, values, top, validity in zip(rows.topk.ids.tolist(), rows.topk.logprobs.tolist(), tops, rows.validity, strict=True):
        real = sorted((-value, token) for token, value in top.items() if token < 8 and not math.isnan(value))[:k]
        assert list(zip([-value for value in values], ids, strict=True))[: len(real)] == real
        assert all(map(math.isnan, values[len(real) :]))
        assert len(set(ids)) == k
        assert max(ids) < 8
        assert (validity == Validity.OK) == bool(real)
