"""What a provider serves is what was seen to work, and nothing that only looked like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from preceptor.client import AsyncTeacherClient
from preceptor.config import TeacherSettings
from preceptor_serving.run import running
from preceptor_teacher.api import ApiOptions
from preceptor_teacher.api.probing import Found, probe
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import FaultPlan, standing_in
from tests.support.models import BUNDLED_TEACHER

OPTIONS = ApiOptions(base_url="https://provider.example/v1", model="m")
here = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")


async def described(faults: FaultPlan | None = None, below: str = "", **options: Any):
    """`below`: an end of the stand-in's address that the provider's has not."""
    async with standing_in(BUNDLED_TEACHER, faults=faults) as served:
        base_url = served.base_url.removesuffix(below)
        known = {"base_url": base_url, "model": "m", "private_hosts": ("127.0.0.1",), "probe": True, "timeout_s": 20}
        service = TeacherService((JudgeSpec("judge", ApiOptions(**{**known, **options})),))
        async with running(service, TeacherSettings(grpc_port=0, rest_port=0)) as house:
            client = AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}")
            [info] = await client.describe("judge")
            await client.close()
            return info.capabilities, served.provider.seen


@here
async def test_what_the_stand_in_serves_is_found_and_described():
    can, seen = await described()
    assert (can.judge, can.generate, can.sampled) == (True, True, False)
    assert (can.own_logprobs, can.max_topk, can.echo_logprobs) == (True, 20, True)
    assert (can.structured_output, can.seeds) == (True, True)
    assert seen["chat"] + seen["completions"] <= 7


@here
async def test_anthropic_has_schemas_and_is_asked_once():
    can, seen = await described(wire="anthropic")
    assert (can.structured_output, can.own_logprobs, can.echo_logprobs, can.seeds) == (True, False, False, False)
    assert (seen["messages"], seen["chat"]) == (1, 0)


@here
async def test_azure_is_asked_under_its_deployment():
    can, seen = await described(below="/v1", wire="azure", api_version="2026-01-01")
    assert (can.own_logprobs, can.structured_output, can.seeds) == (True, True, True)
    assert (can.echo_logprobs, seen["completions"]) == (False, 0)


@here
async def test_a_provider_that_fails_serves_nothing_and_the_service_starts():
    can, _ = await described(FaultPlan({"server_error": 1.0}))
    assert (can.judge, can.own_logprobs, can.structured_output, can.seeds) == (True, False, False, False)


@here
async def test_without_a_probe_nothing_is_asked_and_only_what_the_operator_says_is_claimed():
    can, seen = await described(probe=False)
    assert (can.structured_output, can.own_logprobs, can.echo_logprobs, can.seeds) == (True, False, False, False)
    assert not seen


ODD: list[Mapping[str, Any] | None] = [
    None,
    {},
    {"choices": []},
    {"choices": [{"message": None, "logprobs": None}]},
    {"choices": [{"message": {"content": "red"}, "logprobs": {"content": [], "token_logprobs": []}}]},
    {"choices": [{"message": {"content": '{"colour": "blue"}'}, "logprobs": {"token_logprobs": [None, None, -1.0]}}]},
    {"choices": [{"message": {"content": ["red"]}, "logprobs": {"content": [{"logprob": "high"}]}}]},
]


@pytest.mark.parametrize("reply", ODD, ids=range(len(ODD)))
async def test_replies_of_another_shape_prove_nothing(reply):
    async def post(path: str, body: bytes) -> Mapping[str, Any] | None:
        return reply

    assert await probe(post, OPTIONS) == Found()


async def test_a_lower_bound_of_alternatives_is_found():
    async def post(path: str, body: bytes) -> Mapping[str, Any] | None:
        if b'"top_logprobs": 20' in body:
            return None
        first = {"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}] * 5}
        return {"choices": [{"message": {"content": "a"}, "logprobs": {"content": [first]}}]}

    assert (await probe(post, OPTIONS)).top_logprobs == 5
