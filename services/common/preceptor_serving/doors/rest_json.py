"""Strict JSON bodies. What Python's own parser lets through is refused with the place where it stands.

| a body with | would otherwise |
|---|---|
| the same key twice | lose the first value without a word |
| NaN, Infinity, 1e999 | be read although it is no JSON, and reach the maths |
| whole numbers of thousands of digits, deep nesting, half of a surrogate pair | fail inside the parser, or later, as a defect |
| another character set, a compressed body, another content type | be guessed at |
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from preceptor.errors import InvalidArgument
from preceptor_serving.doors.rest_errors import Refused, from_validation

MAX_DEPTH = 32
JSON_TYPE = "application/json"
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
LARGE_BYTES = 256 << 10  # some ten milliseconds each of reading and of validating

T = TypeVar("T")


class JsonRequest(Request):
    """A request whose `json()` is strict; FastAPI reads bodies through it. `kind` is the type of the route's whole body."""

    def __init__(self, scope: Scope, receive: Receive, kind: object = None) -> None:
        super().__init__(scope, receive)
        self._kind = kind

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = await beside_others(self, self._read, await self.body())
            except InvalidArgument as error:
                raise Refused(error) from None  # FastAPI lets only HTTP exceptions through its body parser
        return self._json

    def _read(self, raw: bytes) -> Any:
        value = read_json(raw)
        return validated(value, self._kind) if len(raw) >= LARGE_BYTES else value


async def beside_others(request: Request, work: Callable[..., T], *inputs: Any) -> T:
    """What `work` makes of a request's body: in a thread where that is large, so that others are answered meanwhile."""
    if len(await request.body()) < LARGE_BYTES:
        return work(*inputs)
    return await asyncio.to_thread(work, *inputs)


def validated(value: Any, kind: object) -> Any:
    """The model that FastAPI would make of it on the event loop; it takes one that is made already as it is."""
    if value is None or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return value
    try:
        return kind.model_validate(value, from_attributes=True)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise from_validation(RequestValidationError(found), kind) from None


def check_headers(headers: Mapping[str, str]) -> None:
    """Returns when the headers promise a plain JSON body in UTF-8."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        _refuse("Content-Encoding", encoding, "identity", "send the body as it is")
    kind, _, parameters = headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if kind != JSON_TYPE and not (kind.startswith("application/") and kind.endswith("+json")):
        _refuse("Content-Type", kind or "nothing", JSON_TYPE, f"send the header Content-Type: {JSON_TYPE}")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in ("", "utf-8", "utf8"):
        _refuse("Content-Type", parameters.strip(), "charset=utf-8", "JSON is UTF-8")


def read_json(raw: bytes) -> Any:
    """The value of a body; `InvalidArgument` says what is wrong with it and where."""
    text = _decoded(raw)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_float)
    except InvalidArgument:
        raise
    except RecursionError:
        _refuse("body", "nested too deeply to be read", f"<= {MAX_DEPTH} levels")
    except json.JSONDecodeError as error:
        _refuse("body", f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}", "one JSON value")
    except ValueError:  # Python's own bound on the digits of a whole number
        _refuse("body", "a whole number of thousands of digits", "64-bit numbers")
    _check_depth(value)
    if HALF_PAIR.search(text):
        _check_characters(value)
    return value


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse("body", f"byte 0x{raw[error.start]:02x} at offset {error.start}", "UTF-8")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        _refuse(twice.encode(errors="replace").decode(), f"{names.count(twice)} times in one object", "once")
    return found


def _no_number(word: str) -> float:
    _refuse("body", word, "a number", 'JSON has no such number; null is missing, "-inf" is probability zero')


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text if len(text) <= 32 else f"{text[:32]}...")


def _check_depth(value: Any) -> None:
    """Level by level, so that no depth can exhaust the stack. Lists of plain values cost one look at their types."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            _refuse("body", f"nested {depth} levels deep or more", f"<= {MAX_DEPTH} levels")
        inner: list[Any] = []
        for one in level:
            values = list(one.values()) if isinstance(one, dict) else one
            if not {dict, list}.isdisjoint(set(map(type, values))):
                inner += values
        level = inner


def _check_characters(value: Any) -> None:
    """Half of a surrogate pair is no character: it could be neither stored nor sent on."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        _refuse("body", f"\\u{ord(error.object[error.start]):04x} without its other half", "Unicode text")


def _refuse(field: str, value: str, limit: str, hint: str = "") -> NoReturn:
    raise InvalidArgument(f"{field}: {value}", field=field, value=value, limit=limit, hint=hint)
