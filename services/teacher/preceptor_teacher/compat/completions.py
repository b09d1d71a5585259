"""OpenAI's `/v1/completions` with vLLM's additions: token-id prompts, `echo`, `prompt_logprobs`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from preceptor.errors import InvalidArgument
from preceptor.types import ModelInfo
from preceptor_teacher.compat.asks import Answer, Ask, Names, Prompts, token_prompts
from preceptor_teacher.compat.positions import ZERO, Entry, list_of, next_entries, prompt_entries, prompt_logprobs
from preceptor_teacher.compat.sampling import Sampling, check_max_tokens, check_neutral, want_of, widest
from preceptor_teacher.rest.convert import receipt_answer

FINGERPRINT = "preceptor"


class CompletionBody(Sampling):
    """The fields of the request."""

    model: str | None = None
    """Name or alias; GET /v1/models lists them. Not needed where one teacher is served."""

    prompt: Prompts
    """Token ids, one list or several. Text is refused."""

    echo: bool | None = None
    """The reply's `logprobs` covers the prompt, then the generated token."""

    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    """Tokens are told as `token_id:N`, asked for or not."""

    suffix: Any = None
    best_of: Any = None
    use_beam_search: Any = None
    length_penalty: Any = None
    truncate_prompt_tokens: Any = None
    prompt_embeds: Any = None
    response_format: Any = None
    stream: Any = None
    stream_options: Any = None
    priority: Any = None
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None
    vllm_xargs: Any = None
    user: Any = None
    add_special_tokens: Any = None
    """Ids are sent, so none are added."""

    request_id: Any = None
    session_id: Any = None
    cache_salt: Any = None
    """Caches are apart for each tenant anyway."""


def read(body: CompletionBody) -> tuple[list[Ask], Names]:
    """One question for each prompt."""
    check_neutral(body)
    check_max_tokens(body.max_tokens, "max_tokens")
    if body.return_tokens_as_token_ids is False and body.logprobs is not None:
        raise InvalidArgument(
            "tokens as text are not served here", field="return_tokens_as_token_ids", value="false", limit="true or null"
        )
    prompts, alone = token_prompts(body.prompt, "prompt")
    width = scored_width(body)
    if width is None and not body.max_tokens:
        raise InvalidArgument(
            "nothing is asked for", field="prompt_logprobs", value="null", limit=">= 0", hint="or echo: true with logprobs"
        )
    want = want_of(body, width)
    wants = {"topk": widest(body), "temperature": "temperature"}
    asks = [Ask(ids, 1 if width is not None else len(ids), want) for ids in prompts]
    return asks, Names("prompt", {**wants, "next": "max_tokens"}, alone)


def scored_width(body: CompletionBody) -> int | None:
    """How many ids are listed at each token of the prompt; None where it is not scored."""
    return body.logprobs if body.prompt_logprobs is None and body.echo else body.prompt_logprobs


def write(body: CompletionBody, model: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """The reply, whose long lists are made when they are sent."""
    read_tokens, generated = sum(len(answer.ask.ids) for answer in answers), len(answers) * (body.max_tokens or 0)
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [_choice(body, index, answer) for index, answer in enumerate(answers)],
        "system_fingerprint": FINGERPRINT,
        "usage": usage(read_tokens, generated),
        "preceptor": {"receipts": [receipt_answer(answer.receipt) for answer in answers]},
    }


def usage(read_tokens: int, generated_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": read_tokens,
        "completion_tokens": generated_tokens,
        "total_tokens": read_tokens + generated_tokens,
    }


def _choice(body: CompletionBody, index: int, answer: Answer) -> dict[str, Any]:
    ids = list(answer.ask.ids)
    generated = [next_entries(answer, 1)[0].token] if body.max_tokens else []
    return {
        "index": index,
        "text": "",
        "logprobs": None if body.logprobs is None else _logprobs(body, answer),
        "finish_reason": "length",
        "stop_reason": None,
        "token_ids": generated if body.return_token_ids else None,
        "prompt_logprobs": None if not _lists_prompt(body) else prompt_logprobs(answer, scored_width(body) or 0),
        "prompt_token_ids": ids if body.return_token_ids else None,
    }


def _lists_prompt(body: CompletionBody) -> bool:
    return scored_width(body) is not None


def _logprobs(body: CompletionBody, answer: Answer) -> dict[str, Any]:
    """Four lists of one length. The most likely of a position are `logprobs` many, and the token itself."""
    width = body.logprobs or 0
    return {
        "text_offset": list_of(_offsets(name(step[0]) if step else first_name(answer) for step in _steps(body, answer))),
        "token_logprobs": list_of(max(step[0].logprob, ZERO) if step else None for step in _steps(body, answer)),
        "tokens": list_of(name(step[0]) if step else first_name(answer) for step in _steps(body, answer)),
        "top_logprobs": list_of(
            {name(entry): max(entry.logprob, ZERO) for entry in step[: width + 1]} if step else None
            for step in _steps(body, answer)
        ),
    }


def _steps(body: CompletionBody, answer: Answer) -> Iterator[list[Entry] | None]:
    """One for each token that the lists cover; None for the first of the prompt."""
    if body.echo:
        yield None
        yield from prompt_entries(answer, scored_width(body) or 0)
    if body.max_tokens:
        yield next_entries(answer, body.logprobs or 0)


def name(entry: Entry) -> str:
    return f"token_id:{entry.token}"


def first_name(answer: Answer) -> str:
    return f"token_id:{answer.ask.ids[0]}"


def _offsets(names: Iterator[str]) -> Iterator[int]:
    """Where each name would begin in their text."""
    at = 0
    for one in names:
        yield at
        at += len(one)


def model_list(infos: Sequence[ModelInfo]) -> dict[str, Any]:
    """`/v1/models`: the newest version of each teacher that scores, then its other names."""
    cards = [(name, info) for info in infos for name in (info.model.name, *info.aliases)]
    return {"object": "list", "data": [model_card(name, info) for name, info in cards]}


def model_card(name: str, info: ModelInfo) -> dict[str, Any]:
    """One name."""
    return {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "preceptor",
        "root": info.model.name,
        "parent": None,
        "max_model_len": info.capabilities.max_sequence_tokens,
    }
