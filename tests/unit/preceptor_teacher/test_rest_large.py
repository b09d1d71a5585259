"""Replies that are large as text: streamed while they are made, and the same numbers as through gRPC."""

from __future__ import annotations

import httpx
import numpy as np

from preceptor.client import ScoreItem
from preceptor.types import Scored, Sequence, Want
from preceptor_serving.doors.rest_pieces import BLOCK_CHARS
from tests.unit.preceptor_teacher.test_service import score, teacher

ROWS, TOPK = 400, 60


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
