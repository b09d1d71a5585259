"""The rollout service's REST bodies at the edges of their numbers and lists: inside they are drawn, beyond they are refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from examples.tiny.tokenizer import VOCAB_SIZE
from tests.unit.preceptor_rollout.serving import serving

U32, U64 = 1 << 32, 1 << 64
GENERATE = {"prompts": [{"ids": [5, 6]}], "max_new_tokens": 1}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("generate", {"max_new_tokens": 0}, "sampling.max_new_tokens"),
    ("generate", {"max_new_tokens": 1048577}, "sampling.max_new_tokens"),
    ("generate", {"max_new_tokens": U32}, "max_new_tokens"),
    ("generate", {"max_new_tokens": "1"}, "max_new_tokens"),
    ("generate", {"samples": 0}, "prompts[0].samples"),
    ("generate", {"samples": 1025}, "prompts[0].samples"),
    ("generate", {"samples": U32}, "samples"),
    ("generate", {"samples": True}, "samples"),
    ("generate", {"top_k": 262145}, "sampling.top_k"),
    ("generate", {"top_k": U32}, "top_k"),
    ("generate", {"top_p": 0}, "sampling.top_p"),
    ("generate", {"top_p": 1.0000001}, "sampling.top_p"),
    ("generate", {"temperature": -1e-9}, "sampling.temperature"),
    ("generate", {"temperature": 1000.1}, "sampling.temperature"),
    ("generate", {"seed": U64}, "seed"),
    ("generate", {"step": U64}, "step"),
    ("generate", {"step": U32}, "step"),
    ("generate", {"stop": ["a"] * 65}, "sampling.stop"),
    ("generate", {"stop": ["a" * 1025]}, "sampling.stop[0]"),
    ("generate", {"stop": [""]}, "sampling.stop[0]"),
    ("generate", {"run": "a/b"}, "run"),
    ("generate", {"run": "a" * 129}, "run"),
    ("generate", {"job": "a" * 129}, "job"),
    ("generate", {"prompts": []}, "prompts"),
    ("generate", {"prompts": [{"ids": []}]}, "prompts[0].context"),
    ("generate", {"prompts": [{"ids": [VOCAB_SIZE]}]}, "prompts[0].context"),
    ("generate", {"prompts": [{"ids": [U32]}]}, "prompts[0].ids[0]"),
    ("generate", {"prompts": [{"ids": [1], "text": "a"}]}, "prompts[0]"),
    ("generate", {"prompts": [{"ids": [1]}] * 4097}, "prompts"),
    ("generate", {"sample": 1}, "sample"),
    ("render", {"items": []}, "items"),
    ("render", {"items": [{"text": "a"}] * 4097}, "items"),
    ("render", {"items": [{"text": 1}]}, "items[0].text"),
    ("render", {"items": [{"messages": []}]}, "items[0].conversation.messages"),
    ("render", {"items": [{"messages": [{"role": "a" * 65, "content": ""}]}]}, "items[0].conversation.messages[0].role"),
]
TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("generate", {}),
    ("generate", {"samples": 2, "top_k": 262144, "top_p": 1, "temperature": 1000, "seed": U64 - 1, "step": U32 - 1}),
    ("generate", {"stop": ["a" * 1024] * 64, "run": "a" * 128, "job": "a" * 128, "temperature": 0}),
    ("generate", {"prompts": [{"ids": [VOCAB_SIZE - 1]}]}),
    ("render", {"items": [{"text": ""}] * 4096}),
    ("render", {"items": [{"messages": [{"role": "a" * 64, "content": ""}]}]}),
]


@pytest.mark.slow
async def test_bodies_at_the_edge_are_taken_and_beyond_it_refused_by_field():
    async with serving() as (house, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=30) as http:
        for route, change in TAKEN:
            reply = await post(http, route, change)
            assert reply.status_code == 200, (change, reply.text[:500])
            assert all("error" not in one for one in reply.json().get("rollouts", [])), change
        for route, change, field in REFUSED:
            reply = await post(http, route, change)
            told = reply.json()
            assert (reply.status_code in (400, 413), told["field"]) == (True, field), (change, told)
            assert told["limit"], change
            assert told["code"] in ("INVALID_ARGUMENT", "TOO_LARGE")


async def post(http: httpx.AsyncClient, route: str, change: dict[str, Any]) -> httpx.Response:
    body = {**(GENERATE if route == "generate" else {}), **change}
    return await http.post(f"/v1/{route}", content=json.dumps(body), headers={"Content-Type": "application/json"})
