"""The two shapes of replies that are no answers: errors, refusals, and calls of tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

REFUSAL = "I cannot help with that."
_OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "server_error", 504: "server_error"}
_ANTHROPIC_CODES = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error", 504: "api_error"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider says these things."""

    error_body: Callable[[int, str], dict[str, Any]]
    refusal_body: Callable[[], dict[str, Any]]
    tool_body: Callable[[], dict[str, Any]]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse(self.error_body(status, message), status_code=status, headers=dict(headers or {}))

    def refusal(self) -> Response:
        return JSONResponse(self.refusal_body())

    def malformed_tool_call(self) -> Response:
        return JSONResponse(self.tool_body())


def key_of(request: Request) -> str:
    """Azure's header, Anthropic's older one, or the bearer that the others send."""
    own = request.headers.get("api-key") or request.headers.get("x-api-key")
    return own or request.headers.get("authorization", "").removeprefix("Bearer ")


def _openai_error(status: int, message: str) -> dict[str, Any]:
    code = _OPENAI_CODES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def _anthropic_error(status: int, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": _ANTHROPIC_CODES.get(status, "invalid_request_error"), "message": message}}


def _openai_odd(message: dict[str, Any], reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    odd = {"object": "chat.completion", "created": 0, "model": "stand-in", "choices": [choice], "usage": usage}
    return {"id": "stand-in-odd", **odd}


def _anthropic_odd(content: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    odd = {"role": "assistant", "model": "stand-in", "content": content, "stop_reason": reason, "stop_sequence": None}
    return {"id": "msg_odd", "type": "message", **odd, "usage": {"input_tokens": 1, "output_tokens": 1}}


OPENAI = Dialect(
    _openai_error,
    lambda: _openai_odd({"content": None, "refusal": REFUSAL}, "stop"),
    lambda: _openai_odd(
        {
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "grade", "arguments": '{"score": 1'}}],
        },
        "tool_calls",
    ),
)
ANTHROPIC = Dialect(
    _anthropic_error,
    lambda: _anthropic_odd([], "refusal"),
    lambda: _anthropic_odd([{"type": "tool_use", "id": "toolu_0", "name": "grade", "input": '{"score": 1'}], "tool_use"),
)
