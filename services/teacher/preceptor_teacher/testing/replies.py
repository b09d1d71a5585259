"""Answers in the shapes of OpenAI and Anthropic, whole or as a stream of events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from preceptor_teacher.testing.writer import Step, Written

PIECE_CHARS = 8  # of a streamed answer


def reason(written: Written) -> str:
    return "stop" if written.finished else "length"


def completion(number: int, model: str, kind: str, choices: Sequence[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
    """A whole reply of OpenAI's."""
    head = {"id": f"stand-in-{number}", "object": kind, "created": int(time.time()), "model": model}
    return {**head, "choices": list(choices), "usage": usage}


def usage_of(written: Sequence[Written]) -> dict[str, int]:
    read, wrote = sum(one.prompt_tokens for one in written), sum(one.completion_tokens for one in written)
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def chat_logprobs(steps: Sequence[Step]) -> dict[str, Any]:
    """As chat has them."""

    def entry(text: str, value: float | None) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode(errors="replace"))}

    content = [
        {**entry(step.text, step.logprob), "top_logprobs": [entry(text, value) for text, value in step.top]} for step in steps
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(steps: Sequence[Step]) -> dict[str, Any]:
    """As completions have them: of tokens that are spelled alike, the likelier one."""
    offsets, offset = [], 0
    for step in steps:
        offsets.append(offset)
        offset += len(step.text)
    return {
        "tokens": [step.text for step in steps],
        "token_logprobs": [step.logprob for step in steps],
        "top_logprobs": [None if step.logprob is None else dict(reversed(step.top)) for step in steps],
        "text_offset": offsets,
    }


async def chat_events(whole: dict[str, Any], *, with_usage: bool) -> AsyncIterator[str]:
    """A whole chat reply as OpenAI streams it."""
    choice = whole["choices"][0]
    head = {**{name: whole[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], finish: str | None = None) -> str:
        part = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [part]})

    yield event({"role": "assistant", "content": ""})
    for piece in _pieces(choice["message"]["content"]):
        yield event({"content": piece})
    yield event({}, choice["finish_reason"])
    if with_usage:
        yield _data({**head, "choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


def message(number: int, model: str, written: Written, usage: dict[str, int]) -> dict[str, Any]:
    """A whole reply of Anthropic's."""
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": written.text}],
        "stop_reason": "end_turn" if written.finished else "max_tokens",
        "stop_sequence": None,
        "usage": usage,
    }


async def message_events(whole: dict[str, Any]) -> AsyncIterator[str]:
    """A whole reply as Anthropic streams it."""
    opening = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield _event("message_start", {"message": opening})
    yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    for piece in _pieces(whole["content"][0]["text"]):
        yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _event("content_block_stop", {"index": 0})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", {"delta": ending, "usage": {"output_tokens": whole["usage"]["output_tokens"]}})
    yield _event("message_stop", {})


def _pieces(text: str) -> Iterable[str]:
    return (text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS))


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _event(name: str, value: dict[str, Any]) -> str:
    return f"event: {name}\n" + _data({"type": name, **value})
