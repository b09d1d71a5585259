"""Bodies that are not what a route takes: every one ends as a 4xx that names the field, and never as a defect."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator
from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument
from preceptor_serving.doors.rest_json import MAX_DEPTH, read_json
from tests.unit.preceptor_teacher.test_service import teacher

GOOD = '{"teacher": "fake", "items": [{"context": [1], "response": [2]}], "want": {"sampled": true}}'
JSON = {"Content-Type": "application/json"}
SURROGATE = "\\ud800"


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as client:
        yield client


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def nested(levels: int) -> str:
    return changed('"want": {', f'"extra": {"[" * levels}{"]" * levels}, "want": {{')


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "a key twice": (changed('"want": {', '"teacher": "other", "want": {'), "teacher"),
    "a key twice, deep inside": (changed('"context": [1]', '"context": [1], "context": [3]'), "context"),
    "NaN": (changed("true}", 'true, "temperature": NaN}'), "body"),
    "Infinity": (changed("true}", 'true, "temperature": -Infinity}'), "body"),
    "a number beyond floats": (changed("true}", 'true, "temperature": 1e999}'), "body"),
    "an id with a fraction": (changed("[1]", "[1.0]"), "items[0].context[0]"),
    "an id as text": (changed("[1]", '["1"]'), "items[0].context[0]"),
    "an id as a truth value": (changed("[1]", "[true]"), "items[0].context[0]"),
    "an id below zero": (changed("[2]", "[2, -1]"), "items[0].response[1]"),
    "an id beyond u32": (changed("[1]", f"[{1 << 32}]"), "items[0].context[0]"),
    "an id of a thousand digits": (changed("[1]", f"[1{'0' * 1000}]"), "items[0].context[0]"),
    "an id of more digits than Python reads": (changed("[1]", f"[1{'0' * 5000}]"), "body"),
    "no id": (changed("[1]", "[null]"), "items[0].context[0]"),
    "a flag as a number": (changed("true", "1"), "want.sampled"),
    "a flag as text": (changed("true", '"yes"'), "want.sampled"),
    "a count as a fraction": (changed("true}", 'true, "topk": 2.0}'), "want.topk"),
    "a window with a fraction": (changed("true}", 'true, "window": [0, 1.5]}'), "want.window[1]"),
    "a name as a number": (changed('"fake"', "7"), "teacher"),
    "an unknown field": (changed('"sampled"', '"sampeld"'), "want.sampeld"),
    "an unknown field of an item": (changed('"context": [1]', '"contexts": [1]'), "items[0].contexts"),
    "half of a surrogate pair": (changed('"fake"', f'"{SURROGATE}"'), "body"),
    "half of a surrogate pair in a key": (changed('"sampled"', f'"{SURROGATE}"'), "body"),
    "lists nested deeply": (nested(MAX_DEPTH + 1), "body"),
    "lists nested beyond the stack": (nested(200_000), "body"),
    "objects nested beyond the stack": ('{"a":' * 100_000 + "1" + "}" * 100_000, "body"),
    "no UTF-8": (GOOD.encode().replace(b"fake", b"f\xffke"), "body"),
    "UTF-16": (GOOD.encode("utf-16"), "body"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "body"),
    "a body cut short": (GOOD[:-5], "body"),
    "two values": (GOOD + GOOD, "body"),
    "nothing": ("", "body"),
    "blanks": ("   ", "body"),
    "a list": ("[]", "body"),
    "a null": ("null", "body"),
    "a text": ('"fake"', "body"),
}


async def test_every_hostile_body_is_a_400_that_names_the_field(http):
    for what, (body, field) in HOSTILE.items():
        reply = await http.post("/v1/score", content=body, headers=JSON)
        told = reply.json()
        assert (reply.status_code, told["code"], told["field"]) == (400, "INVALID_ARGUMENT", field), (what, told)
        assert told["limit"], what
        assert len(reply.content) < 2500, f"{what}: what was sent is not sent back whole"


HEADERS: list[tuple[dict[str, str], str]] = [
    ({}, "Content-Type"),
    ({"Content-Type": "text/plain"}, "Content-Type"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type"),
    ({"Content-Type": "multipart/form-data; boundary=x"}, "Content-Type"),
    ({"Content-Type": "application/json; charset=latin-1"}, "Content-Type"),
    ({**JSON, "Content-Encoding": "gzip"}, "Content-Encoding"),
    ({**JSON, "Content-Encoding": "br"}, "Content-Encoding"),
]


async def test_headers_that_promise_anything_but_plain_json_are_refused_by_name(http):
    for headers, field in HEADERS:
        body = gzip.compress(GOOD.encode()) if "Content-Encoding" in headers else GOOD.encode()
        reply = await http.post("/v1/score", content=body, headers=headers)
        assert (reply.status_code, reply.json()["field"]) == (400, field), headers
    for kind in ("application/json", "application/JSON; charset=UTF-8", "application/vnd.x+json"):
        reply = await http.post("/v1/score", content=GOOD, headers={"Content-Type": kind})
        assert reply.status_code == 200, reply.text


async def test_an_unknown_field_is_told_its_nearest_neighbour_at_that_place(http):
    for right, wrong in (("sampled", "sampeld"), ("context", "contxt"), ("items", "item")):
        told = (await http.post("/v1/score", content=changed(f'"{right}"', f'"{wrong}"'), headers=JSON)).json()
        assert f"did you mean '{right}'" in told["hint"], told


LIMITS = {
    "a whole number": (changed("[1]", '["1"]'), changed("[1]", "[1.5]"), changed("true}", 'true, "topk": "2"}')),
    "a number": (changed("true}", 'true, "temperature": "hot"}'),),
    "true or false": (changed("true", "1"), changed("true", '"yes"')),
    "text": (changed('"fake"', "7"), changed('"fake"', "null")),
    "a list": (changed("[1]", "3"), changed("[1]", "{}")),
    "an object": (changed('{"sampled": true}', "[]"), "[]", "3"),
    "a field that this body has": (changed('"sampled"', '"sampeld"'),),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_what_may_stand_at_a_place_is_told_in_words_of_the_protocol(http, limit):
    for body in LIMITS[limit]:
        told = (await http.post("/v1/score", content=body, headers=JSON)).json()
        assert told["limit"] == limit, (body, told)


async def test_parameters_of_a_grader_are_read_as_strictly(http):
    item = '{"teacher": "judge", "items": [{"prompt": "p", "response": "r"}], "parameters": %s}'
    for parameters in ('{"a": 1, "a": 2}', '{"a": NaN}', '{"a": ' * 50 + "1" + "}" * 50, f'{{"{SURROGATE}": 1}}'):
        reply = await http.post("/v1/grade", content=item % parameters, headers=JSON)
        assert reply.status_code == 400, (parameters, reply.text)


async def test_a_body_over_the_limit_is_refused_before_it_is_sent_whole():
    async with teacher(max_message_bytes=1 << 20) as house, httpx.AsyncClient() as http:
        sent = 0

        async def endless():
            nonlocal sent
            for _ in range(40):
                sent += 1 << 20
                yield b" " * (1 << 20)

        url = f"http://127.0.0.1:{house.rest_port}/v1/score"
        reply = await http.post(url, content=endless(), headers=JSON)
        assert (reply.status_code, reply.json()["field"], reply.json()["limit"]) == (413, "body", "<= 1048576 bytes")
        assert (await http.post(url, content=GOOD, headers=JSON)).status_code == 200


# ---------------------------------------------------------------- the reader itself

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_can_say_is_read_as_it_stands(value):
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_value_or_a_named_refusal(raw):
    with suppress(InvalidArgument):  # anything else fails here
        read_json(raw)


def test_depth_is_counted_at_the_limit_and_beyond():
    for levels in (MAX_DEPTH - 1, MAX_DEPTH):
        assert read_json(b"[" * levels + b"]" * levels) is not None
    with pytest.raises(InvalidArgument) as caught:
        read_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert caught.value.limit == f"<= {MAX_DEPTH} levels"


def test_a_whole_pair_of_surrogates_is_one_character():
    assert read_json(b'"\\ud83d\\ude00"') == "\U0001f600"
