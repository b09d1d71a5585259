"""The mistakes that trainers make, at the last good value and at the first bad one, through gRPC and REST alike."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx
import pytest

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.errors import PreceptorError
from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.unit.preceptor_teacher.test_service import TOKENS, client_of, spec, teacher

LONGEST, ITEMS, PADDED = 40, 3, 64
SAMPLES, CANDIDATES = 6, 9  # of a row; less than the protocol allows, so that it is this teacher that refuses
SHARE = {"context": [1, 2], "response": [3, 4]}
DIGEST = "00" * 32


@dataclass(frozen=True)
class Mistake:
    """A request, and what is refused of it; `code` None: it is fine."""

    what: str
    body: dict[str, Any]
    code: str | None = None
    field: str = ""
    value: str = ""
    limit: str = ""
    rest_field: str | None = None  # where REST sees it earlier and by its own path
    of: str = "item"  # or request: all of it is refused


def want(**signals: Any) -> dict[str, Any]:
    return {"items": [SHARE], "want": {"sampled": True, **signals}}


def item(context: list[int], response: list[int]) -> dict[str, Any]:
    return {"items": [{"context": context, "response": response}]}


def lists(*rows: list[int]) -> dict[str, Any]:
    return want(candidates=list(rows))


WHERE = "items[0]."
BAD = "INVALID_ARGUMENT"
CASES = [
    Mistake("the last id", item([1, TOKENS - 1], [2])),
    Mistake("an id of the padding", item([1, TOKENS], [2]), BAD, f"{WHERE}sequence.segments[0].context[1]", "61", "< 61"),
    Mistake(
        "a response id of the padding", item([1], [PADDED - 1]), BAD, f"{WHERE}sequence.segments[1].response[0]", "63", "< 61"
    ),
    Mistake("k is the vocabulary", want(topk=TOKENS)),
    Mistake("k is less than the vocabulary", want(topk=TOKENS - 1)),
    Mistake("k beyond the vocabulary", want(topk=TOKENS + 1), "UNSUPPORTED", f"{WHERE}want.topk", "62", "61"),
    Mistake("a candidate is the last id", lists([TOKENS - 1], [0])),
    Mistake("a candidate of the padding", lists([TOKENS], [0]), BAD, f"{WHERE}want.candidates.ids", "61", "< 61"),
    Mistake("a list for each row", lists([1, 2], [])),
    Mistake("a list too few", lists([1]), BAD, f"{WHERE}want.candidates", "1 lists", "2 lists"),
    Mistake("a list too many", lists([1], [2], [3]), BAD, f"{WHERE}want.candidates", "3 lists", "2 lists"),
    Mistake("a candidate less than a row may have", lists([*range(CANDIDATES - 1)], [])),
    Mistake("as many candidates as a row may have", lists([], [*range(CANDIDATES)])),
    Mistake(
        "a candidate too many in one row",
        lists([1], [*range(CANDIDATES + 1)]),
        "UNSUPPORTED",
        f"{WHERE}want.candidates",
        "10",
        "9",
    ),
    Mistake("a sample less than there can be", want(samples=SAMPLES - 1)),
    Mistake("as many samples as there can be", want(samples=SAMPLES)),
    Mistake("a sample too many", want(samples=SAMPLES + 1), "UNSUPPORTED", f"{WHERE}want.samples", "7", "6"),
    Mistake("the whole window", want(window=[0, 2])),
    Mistake("a window beyond the rows", want(window=[0, 3]), BAD, f"{WHERE}want.window", "0..3", "0 <= start <= end <= 2"),
    Mistake("a window backwards", want(window=[2, 1]), BAD, f"{WHERE}want.window", "2..1", "0 <= start <= end <= 2"),
    Mistake("the longest sequence", item([1] * (LONGEST - 2), [1, 2])),
    Mistake("a token too long", item([1] * (LONGEST - 1), [1, 2]), "TOO_LARGE", f"{WHERE}sequence", "41 tokens", "<= 40 tokens"),
    Mistake(
        "a row without context",
        item([], [1]),
        BAD,
        f"{WHERE}sequence.segments[0]",
        "a response token at index 0",
        "context before it",
    ),
    Mistake("the hottest", want(temperature=1000)),
    Mistake(
        "hotter", want(temperature=1000.5), BAD, f"{WHERE}want.temperature", "1000.5", "<= 1000", "want.temperature", of="request"
    ),
    Mistake("no temperature", want(temperature=0), BAD, f"{WHERE}want.temperature", "0", "> 0", "want.temperature", of="request"),
    Mistake("a cold one", want(temperature=1e-6)),
    Mistake("NaN", want(temperature=math.nan), BAD, f"{WHERE}want.temperature", "nan", "a finite number", "body", of="request"),
    Mistake("as many items as are allowed", {"items": [SHARE] * ITEMS}),
    Mistake("an item too many", {"items": [SHARE] * (ITEMS + 1)}, "TOO_LARGE", "items", "4 items", "<= 3 items", of="request"),
    Mistake("no item", {"items": []}, BAD, "items", "0 items", ">= 1 items", "items", of="request"),
    Mistake("an unknown teacher", {"teacher": "fak", "items": [SHARE]}, "NOT_FOUND", "teacher.teacher", "fak", "", of="request"),
    Mistake(
        "another tokenizer",
        {"items": [SHARE], "tokenizer_sha256": DIGEST},
        "WRONG_PAIR",
        "tokenizer_sha256",
        DIGEST,
        "",
        of="request",
    ),
    Mistake(
        "another template",
        {"items": [SHARE], "template_sha256": DIGEST},
        "WRONG_PAIR",
        "template_sha256",
        DIGEST,
        "",
        of="request",
    ),
    Mistake("the last band", {"items": [SHARE], "band": 7}),
    Mistake("a band too low", {"items": [SHARE], "band": 8}, BAD, "band", "8", "<= 7", "band", of="request"),
    Mistake("a tail of nothing", want(tail="topk"), BAD, f"{WHERE}want.tail", "topk", "a want with topk"),
]


def message(body: dict[str, Any]) -> teacher_pb2.ScoreRequest:
    """The gRPC form of a friendly body, built by hand: what this test compares must not be made by what it tests."""
    request = teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto(body.get("teacher", "fake")), band=body.get("band", 0))
    request.tokenizer_sha256 = bytes.fromhex(body.get("tokenizer_sha256", ""))
    request.template_sha256 = bytes.fromhex(body.get("template_sha256", ""))
    for one in body["items"]:
        segments = [common_pb2.Segment(context=ids(one["context"]))] if one["context"] else []
        segments.append(common_pb2.Segment(response=ids(one["response"])))
        request.items.add(sequence=common_pb2.Sequence(segments=segments), want=want_message(body.get("want", {"sampled": True})))
    return request


def ids(values: list[int]) -> common_pb2.TokenIds:
    return common_pb2.TokenIds(u32le=b"".join(value.to_bytes(4, "little") for value in values))


def want_message(signals: dict[str, Any]) -> common_pb2.Want:
    plain = {name: value for name, value in signals.items() if name in ("sampled", "topk", "samples", "temperature")}
    made = common_pb2.Want(**plain)
    if "window" in signals:
        made.window.start, made.window.end = signals["window"]
    if "tail" in signals:
        made.tail = common_pb2.TAIL_OF_TOPK
    if "candidates" in signals:
        ends = [0]
        for row in signals["candidates"]:
            ends.append(ends[-1] + len(row))
        made.candidates.offsets_u32le = ids(ends).u32le
        made.candidates.ids_u32le = ids([one for row in signals["candidates"] for one in row]).u32le
    return made


async def through_grpc(client, mistake: Mistake) -> PreceptorError | None:
    try:
        reply = await client.connection.unary("preceptor.v1.Teacher/Score", teacher_pb2.ScoreReply)(
            message(mistake.body), timeout=20, metadata=client.connection.metadata()
        )
    except grpc.aio.AioRpcError as failure:
        return from_rpc(failure)
    [first, *_] = reply.results
    return error_of(first.error) if first.HasField("error") else None


async def through_rest(http: httpx.AsyncClient, mistake: Mistake) -> tuple[int, dict[str, Any] | None]:
    body = json.dumps({"teacher": "fake", "want": {"sampled": True}, **mistake.body})
    reply = await http.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    told = reply.json()
    return reply.status_code, told if reply.status_code != 200 else told["results"][0].get("error")


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_every_mistake_is_refused_by_code_field_value_and_limit_and_its_neighbour_is_not(door):
    made = spec("fake", max_samples=SAMPLES, max_candidates_per_row=CANDIDATES)
    async with (
        teacher(made, max_sequence_tokens=LONGEST, max_batch_items=ITEMS) as house,
        client_of(house) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http,
    ):
        for mistake in CASES:
            if door == "grpc":
                check_grpc(mistake, await through_grpc(client, mistake))
            else:
                check_rest(mistake, *await through_rest(http, mistake))


def check_grpc(mistake: Mistake, error: PreceptorError | None) -> None:
    if mistake.code is None:
        assert error is None, (mistake.what, error)
        return
    assert error is not None, mistake.what
    assert (error.code.value, error.field, error.value) == (mistake.code, mistake.field, mistake.value), mistake.what
    assert mistake.limit in error.limit, mistake.what


def check_rest(mistake: Mistake, status: int, told: dict[str, Any] | None) -> None:
    if mistake.code is None:
        assert (status, told) == (200, None), mistake.what
        return
    assert told is not None, mistake.what
    assert (status == 200) == (mistake.of == "item"), (mistake.what, status)
    assert 400 <= status < 500 or status == 200, mistake.what
    assert (told["code"], told["field"]) == (mistake.code, mistake.rest_field or mistake.field), (mistake.what, told)
    if mistake.rest_field is None:
        assert (told["value"], mistake.limit in told["limit"]) == (mistake.value, True), (mistake.what, told)
    else:
        assert told["value"], mistake.what
