"""Replies that are large as text: streamed while they are made, and the same numbers as through gRPC."""

from __future__ import annotations

import json
import threading

import httpx
import numpy as np
import pytest

from preceptor.client import ScoreItem
from preceptor.types import Scored, Sequence, Want
from preceptor_serving.doors import rest_json
from preceptor_serving.doors.rest_pieces import BLOCK_CHARS
from preceptor_teacher.rest import routes
from tests.unit.preceptor_teacher.test_service import score, teacher

ROWS, TOPK = 400, 60
JSON = {"Content-Type": "application/json"}
BLANKS = b" " * rest_json.LARGE_BYTES


async def test_a_large_reply_is_streamed_and_says_what_grpc_says():
    sequence = Sequence.of([1, 2], np.arange(ROWS) % 50)
    item = {"context": [1, 2], "response": sequence.response_ids.tolist()}
    wrong = {"context": [1], "response": [99]}
    body = {"teacher": "fake", "items": [item, wrong, item], "want": {"sampled": True, "topk": TOPK}}
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=30) as http:
        reply = await http.post("/v1/score", json=body)
        small = await http.post("/v1/score", json={**body, "items": [wrong]})
        [known] = await score(house, ScoreItem(sequence, Want(sampled=True, topk=TOPK)))
    assert isinstance(known, Scored)
    assert len(reply.content) > BLOCK_CHARS
    assert reply.headers.get("transfer-encoding") == "chunked", "it is not made before it is sent"
    assert "content-length" in small.headers
    first, refused, last = reply.json()["results"]
    assert refused["error"]["field"] == "items[1].sequence.segments[1].response[0]"
    assert known.rows.topk is not None
    assert known.rows.sampled is not None
    for one in (first, last):
        assert np.array(one["rows"]["topk"]["ids"]).tolist() == known.rows.topk.ids.tolist()
        assert np.allclose(one["rows"]["sampled"], known.rows.sampled, atol=1e-6)


async def test_a_large_body_is_read_and_converted_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    on_the_loop: dict[str, list[bool]] = {"read": [], "validate": [], "convert": []}

    def watched(name, work):
        def run(*inputs):
            on_the_loop[name].append(threading.current_thread() is threading.main_thread())
            return work(*inputs)

        return run

    monkeypatch.setattr(rest_json, "read_json", watched("read", rest_json.read_json))
    monkeypatch.setattr(rest_json, "validated", watched("validate", rest_json.validated))
    monkeypatch.setattr(routes, "to_request", watched("convert", routes.to_request))
    small = b'{"teacher": "fake", "items": [{"context": [1, 2], "response": [3]}], "want": {"sampled": true}}'
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=60) as http:
        replies = [await http.post("/v1/score", content=body, headers=JSON) for body in (small, small + BLANKS, b"[" + BLANKS)]
    assert [reply.status_code for reply in replies] == [200, 200, 400]
    assert replies[2].json()["field"] == "body", "what is wrong with a large one is told as of a small one"
    assert on_the_loop == {"read": [True, False, False], "validate": [False], "convert": [True, False]}


async def test_what_is_wrong_in_a_large_body_is_told_as_in_a_small_one():
    item = {"context": [1, 2], "response": [3]}
    wrong = (
        {"teacher": "fake", "items": [{"contxt": [1], "response": [3]}]},
        {"teacher": "fake", "items": [{"context": [1, "a"], "response": [3]}], "band": -1},
        {"teacher": "fake", "items": [item] * 1025},
        {"items": [item]},
        [item],
        None,
    )
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=60) as http:
        for body in wrong:
            raw = json.dumps(body).encode()
            small, large = [await http.post("/v1/score", content=raw + rest, headers=JSON) for rest in (b"", BLANKS)]
            assert small.status_code in (400, 413), small.text
            assert (large.status_code, large.json()) == (small.status_code, small.json())
