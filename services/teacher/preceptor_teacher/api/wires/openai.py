"""OpenAI's shape, as OpenAI, Azure, vLLM, SGLang, Together and many others speak it: chat, and completions of plain text."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from preceptor.errors import Unavailable
from preceptor_teacher.api.messages import ChatReply, Question, Tokens
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.wires.protocol import Parsed, Wire
from preceptor_teacher.api.wires.reading import Body, count, text_of

CHAT_END, COMPLETIONS_END, EMBEDDINGS_END = "chat/completions", "completions", "embeddings"
REFUSED = ("content_filter",)


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _azure_key(key: str) -> dict[str, str]:
    return {"api-key": key}


def path_to(end: str, options: ApiOptions, model: str | None = None) -> str:
    """Where the provider has this. At Azure a deployment is part of the path, and the version of the interface a parameter."""
    if options.wire != "azure":
        return f"/{end}"
    deployment, version = quote(model or options.model, safe=""), quote(options.api_version or "", safe="")
    return f"/openai/deployments/{deployment}/{end}?api-version={version}"


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


TO_CHAT, TO_COMPLETIONS = partial(path_to, CHAT_END), partial(path_to, COMPLETIONS_END)
CHAT = Wire("openai", TO_CHAT, _bearer, _chat_body, _read_chat, schemas=True)
COMPLETIONS = Wire("openai-completions", TO_COMPLETIONS, _bearer, _completions_body, _read_completion, schemas=False)
AZURE = Wire("azure", TO_CHAT, _azure_key, _chat_body, _read_chat, schemas=True)
