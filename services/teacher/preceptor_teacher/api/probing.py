"""What a provider serves, found out by asking: tiny questions, whose answers are believed only where they have the shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from preceptor.errors import PreceptorError
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.wires.embedding import embedding_body, vector_of
from preceptor_teacher.api.wires.openai import CHAT_END, COMPLETIONS_END, EMBEDDINGS_END, path_to
from preceptor_teacher.api.wires.reading import Body

Post = Callable[[str, bytes], Awaitable[Body | None]]
"""Path and body -> the reply; None where it is not served."""

TOPS = (20, 5, 1)  # what providers admit at most, the common bounds
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen to work once. False is also what failed for another reason at that moment."""

    top_logprobs: int | None = None  # of its own text: the most alternatives seen; None: no log-probabilities
    echo_logprobs: bool = False
    structured_output: bool = False
    seeds: bool = False
    embeddings: bool = False


async def probe(post: Post, options: ApiOptions) -> Found:
    """Asks; never raises for what the provider does."""
    if options.wire == "anthropic":
        return Found(structured_output=_has_colour(_text(await post("/messages", _messages(options)), "content", 0, "text")))
    top, echo, shaped, seeds, embeds = await asyncio.gather(
        *(_top_logprobs(post, options), _echoes(post, options), _shapes(post, options), _repeats(post, options)),
        _embeds(post, options),
    )
    return Found(top, echo, shaped, seeds, embeds)


async def _top_logprobs(post: Post, options: ApiOptions) -> int | None:
    for most in TOPS:
        reply = await _chat(post, options, max_tokens=1, logprobs=True, top_logprobs=most)
        first = _at(reply, "choices", 0, "logprobs", "content", 0)
        if isinstance(_at(first, "logprob"), int | float):
            listed = _at(first, "top_logprobs")
            return min(most, len(listed)) if isinstance(listed, list) else 0
    return None


async def _echoes(post: Post, options: ApiOptions) -> bool:
    """Whether given text is scored: the first token has no value and every other one has."""
    body = {"model": options.model, "prompt": "red green red green", "max_tokens": 1, "echo": True, "logprobs": 1}
    values = _at(await post(path_to(COMPLETIONS_END, options), _bytes(body)), "choices", 0, "logprobs", "token_logprobs")
    return isinstance(values, list) and len(values) > 2 and all(isinstance(one, int | float) for one in values[1:])


async def _shapes(post: Post, options: ApiOptions) -> bool:
    shape = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": SCHEMA}}
    return _has_colour(_text(await _chat(post, options, max_tokens=32, response_format=shape), *_CONTENT))


async def _repeats(post: Post, options: ApiOptions) -> bool:
    """Whether a seed gives the same draws twice, and another seed others: at temperature 0 it would prove nothing."""
    drawn = [_text(await _chat(post, options, max_tokens=16, temperature=2, seed=seed), *_CONTENT) for seed in (1, 1, 2)]
    return drawn[0] != "" and drawn[0] == drawn[1] != drawn[2]


async def _embeds(post: Post, options: ApiOptions) -> bool:
    """Whether the model that the operator names makes a vector as long as was said; where none is named nobody is asked."""
    if options.embedding is None:
        return False
    model = options.embedding.model
    reply = await post(path_to(EMBEDDINGS_END, options, model), _bytes(embedding_body(model, "red green")))
    with suppress(PreceptorError):
        return bool(vector_of(reply or {}, options.embedding.dimensions))
    return False


_CONTENT = ("choices", 0, "message", "content")


async def _chat(post: Post, options: ApiOptions, *, max_tokens: int, **more: Any) -> Body | None:
    messages = [{"role": "user", "content": "Name a colour."}]
    body = {"model": options.model, "messages": messages, options.token_limit_field: max_tokens, **more}
    return await post(path_to(CHAT_END, options), _bytes(body))


def _messages(options: ApiOptions) -> bytes:
    messages = [{"role": "user", "content": "Name a colour."}]
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    return _bytes({"model": options.model, "max_tokens": 32, "messages": messages, "output_config": config})


def _bytes(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _at(value: Any, *path: str | int) -> Any:
    """What lies at a path of names and places; None where nothing does."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def _text(value: Any, *path: str | int) -> str:
    found = _at(value, *path)
    return found if isinstance(found, str) else ""


def _has_colour(text: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return value in ({"colour": "red"}, {"colour": "green"})
