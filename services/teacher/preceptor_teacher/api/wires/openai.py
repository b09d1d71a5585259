"""OpenAI's shape, as OpenAI, Azure, vLLM, SGLang, Together and many others speak it: chat, and completions of plain text."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from preceptor.errors import Unavailable
from preceptor_teacher.api.messages import ChatReply, Question, Tokens
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.wires.protocol import Parsed, Wire
from preceptor_teacher.api.wires.reading import Body, count, text_of

REFUSED = ("content_filter",)


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _azure_key(key: str) -> dict[str, str]:
    return {"api-key": key}


def _chat_path(options: ApiOptions) -> str:
    return "/chat/completions"


def _completions_path(options: ApiOptions) -> str:
    return "/completions"


def _azure_path(options: ApiOptions) -> str:
    """A deployment is part of the path, and the version of the interface a parameter."""
    version = quote(options.api_version or "", safe="")
    return f"/openai/deployments/{quote(options.model, safe='')}/chat/completions?api-version={version}"


def _shared(question: Question, options: ApiOptions, limit_field: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": options.model, limit_field: question.max_tokens}
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.seed is not None:
        body["seed"] = options.seed
    return body


def _chat_body(question: Question, options: ApiOptions) -> dict[str, Any]:
    body = _shared(question, options, options.token_limit_field)
    body["messages"] = list(question.messages)
    if question.schema is not None and options.structured_output:
        named = {"name": "verdict", "strict": True, "schema": dict(question.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _completions_body(question: Question, options: ApiOptions) -> dict[str, Any]:
    """Roles have no words here: the contents stand one after another."""
    prompt = "\n\n".join(message["content"] for message in question.messages)
    return {**_shared(question, options, "max_tokens"), "prompt": prompt}


def _read_chat(body: Body) -> Parsed:
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        reason = text_of(choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unavailable("the provider's reply has no message") from None
    reply = ChatReply(text_of(content), reason, refused=bool(refusal) or reason in REFUSED)
    return Parsed(reply, _tokens(body))


def _read_completion(body: Body) -> Parsed:
    try:
        choice = body["choices"][0]
        text, reason = choice["text"], text_of(choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unavailable("the provider's reply has no text") from None
    return Parsed(ChatReply(text_of(text), reason, refused=reason in REFUSED), _tokens(body))


def _tokens(body: Body) -> Tokens:
    prompt = count(body, "usage", "prompt_tokens")
    cached = min(prompt, count(body, "usage", "prompt_tokens_details", "cached_tokens"))
    return Tokens(prompt, count(body, "usage", "completion_tokens"), cached)


CHAT = Wire("openai", _chat_path, _bearer, _chat_body, _read_chat, schemas=True)
COMPLETIONS = Wire("openai-completions", _completions_path, _bearer, _completions_body, _read_completion, schemas=False)
AZURE = Wire("azure", _azure_path, _azure_key, _chat_body, _read_chat, schemas=True)
