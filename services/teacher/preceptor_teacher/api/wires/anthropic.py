"""Anthropic's messages. What a judge is told each time stands in the system block, marked for the provider's prompt cache."""

from __future__ import annotations

from typing import Any

from preceptor.errors import Unavailable
from preceptor_teacher.api.messages import ChatReply, Question, Tokens
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.wires.protocol import Parsed, Wire
from preceptor_teacher.api.wires.reading import Body, count, text_of

VERSION = "2023-06-01"
REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length"}


def _path(options: ApiOptions) -> str:
    return "/messages"


def _headers(key: str) -> dict[str, str]:
    return {"x-api-key": key}


def _body(question: Question, options: ApiOptions) -> dict[str, Any]:
    """No temperature: the newest models of this provider take none."""
    system = "\n\n".join(one["content"] for one in question.messages if one["role"] == "system")
    body: dict[str, Any] = {
        "model": options.model,
        "max_tokens": question.max_tokens,
        "messages": [one for one in question.messages if one["role"] != "system"],
    }
    if system:
        body["system"] = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    if question.schema is not None and options.structured_output:
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(question.schema)}}
    return body


def _read(body: Body) -> Parsed:
    blocks = body.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Unavailable("the provider's reply has no message")
    text = "".join(text_of(block.get("text")) for block in blocks if block.get("type") == "text")
    said = text_of(body.get("stop_reason"))
    return Parsed(ChatReply(text, REASONS.get(said, said), refused=said == "refusal"), _tokens(body))


def _tokens(body: Body) -> Tokens:
    """This provider counts what its cache read and wrote beside the rest."""
    cached = count(body, "usage", "cache_read_input_tokens")
    written = count(body, "usage", "cache_creation_input_tokens")
    fresh = count(body, "usage", "input_tokens")
    return Tokens(fresh + cached + written, count(body, "usage", "output_tokens"), cached, written)


MESSAGES = Wire("anthropic", _path, _headers, _body, _read, schemas=True, fixed_headers=(("anthropic-version", VERSION),))
