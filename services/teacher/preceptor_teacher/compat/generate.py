"""vLLM's `/inference/v1/generate`: ids in, ids out, with `prompt_logprobs` or log-probabilities of the caller's own ids."""

from __future__ import annotations

import base64
import io
import uuid
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from preceptor.errors import InvalidArgument
from preceptor.types import RaggedIds
from preceptor_teacher.compat.asks import Answer, Ask, Names, TokenIds, check_asked
from preceptor_teacher.compat.completions import name, usage
from preceptor_teacher.compat.positions import Entry, next_entries, prompt_logprobs
from preceptor_teacher.compat.sampling import Sampling, check_max_tokens, check_neutral, want_of, widest
from preceptor_teacher.rest.bodies import Body, Count
from preceptor_teacher.rest.convert import receipt_answer

PAD = -1


class GenerateSampling(Sampling):
    """vLLM's own sampling parameters."""

    prompt_logprob_token_ids: list[list[Annotated[int, Field(ge=PAD, lt=1 << 32)]]] | None = None
    """Row i holds ids whose log-probabilities are wanted where token start + i + 1 of the prompt stands; -1 pads."""

    prompt_logprob_start: Count | None = None
    """The first row of `prompt_logprob_token_ids`."""

    flat_logprobs: Any = None
    output_kind: Any = None
    extra_args: Any = None


class GenerateBody(Body):
    """The fields of the request."""

    token_ids: TokenIds
    sampling_params: GenerateSampling
    model: str | None = None
    request_id: str | None = None
    return_token_ids: bool | None = None
    token_offsets: Any = None
    features: Any = None
    content_parts: Any = None
    reasoning_ended: Any = None
    reasoning_parser_kwargs: Any = None
    output_mode: Any = None
    stream: Any = None
    stream_options: Any = None
    cache_salt: Any = None
    priority: Any = None
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None


def read(body: GenerateBody) -> tuple[list[Ask], Names]:
    """The one question."""
    sampling = body.sampling_params
    check_neutral(body)
    check_neutral(sampling, "sampling_params.")
    check_max_tokens(sampling.max_tokens, "sampling_params.max_tokens")
    lists, start = sampling.prompt_logprob_token_ids, sampling.prompt_logprob_start or 0
    if lists is not None:
        check_asked(len(lists), max(map(len, lists), default=0), "sampling_params.prompt_logprob_token_ids")
        _check_rows(len(lists), len(body.token_ids) - 1 - start)
    elif start:
        raise InvalidArgument(
            "prompt_logprob_start is where prompt_logprob_token_ids begin, and there are none",
            field="sampling_params.prompt_logprob_start",
            value=start,
            limit="0 or null",
        )
    want = want_of(sampling, sampling.prompt_logprobs)
    first = 1 if want.sampled else start + 1 if lists is not None else len(body.token_ids)
    if lists is not None:
        before = [[]] * (start + 1 - first)
        rows = [*before, *([token for token in row if token != PAD] for row in lists), *([[]] if want.next else [])]
        want = replace(want, candidates=RaggedIds.from_rows(rows))
    elif not want.sampled and not want.next:
        raise InvalidArgument("nothing is asked for", field="sampling_params.prompt_logprobs", value="null", limit=">= 0")
    return [Ask(body.token_ids, first, want)], Names(
        "token_ids", {**WANTS, "topk": f"sampling_params.{widest(sampling)}"}, single=True
    )


WANTS = {
    "candidates": "sampling_params.prompt_logprob_token_ids",
    "temperature": "sampling_params.temperature",
    "next": "sampling_params.max_tokens",
}


def _check_rows(given: int, rows: int) -> None:
    if given != rows or rows < 1:
        raise InvalidArgument(
            f"prompt_logprob_token_ids has {given} rows; {max(rows, 0)} tokens are predicted from the start on",
            field="sampling_params.prompt_logprob_token_ids",
            value=f"{given} rows",
            limit=f"{max(rows, 0)} rows",
        )


def write(body: GenerateBody, model: str, answer: Answer) -> dict[str, Any]:
    """The reply, whose long lists are made when they are sent."""
    sampling = body.sampling_params
    generated = next_entries(answer, sampling.logprobs or 0) if sampling.max_tokens else []
    choice = {
        "index": 0,
        "logprobs": _logprobs(generated, sampling.logprobs),
        "finish_reason": "length",
        "stop_reason": None,
        "token_ids": [generated[0].token] if generated else [],
    }
    scored = None if sampling.prompt_logprobs is None else prompt_logprobs(answer, sampling.prompt_logprobs)
    return {
        "output_mode": "tokens",
        "request_id": body.request_id or uuid.uuid4().hex,
        "model": model,
        "choices": [choice],
        "usage": usage(len(body.token_ids), len(choice["token_ids"])),
        "prompt_logprobs": scored,
        "prompt_token_id_logprobs": _candidates(body, answer),
        "prompt_token_ids": body.token_ids if body.return_token_ids else None,
        "kv_transfer_params": None,
        "preceptor": {"receipts": [receipt_answer(answer.receipt)]},
    }


def _logprobs(entries: list[Entry], width: int | None) -> dict[str, Any] | None:
    """Of the generated token: by id, as vLLM 0.32 tells it, and as `token_id:N`, as earlier ones did."""
    if width is None or not entries:
        return None
    listed = [_told(entry) for entry in entries[:width]]
    return {"content": [{**_told(entries[0]), "top_logprobs": listed}]}


def _told(entry: Entry) -> dict[str, Any]:
    return {"token_id": entry.token, "logprob": entry.logprob, "rank": entry.rank, "token": name(entry), "bytes": None}


def _candidates(body: GenerateBody, answer: Answer) -> str | None:
    """The caller's lists as vLLM sends them: base64 of an .npy array [rows, ids], -inf where a row is padded."""
    lists, found = body.sampling_params.prompt_logprob_token_ids, answer.rows.candidates
    if lists is None or found is None:
        return None
    skipped = answer.scored - len(lists)
    values = np.full((len(lists), max(map(len, lists))), -np.inf, np.float32)
    for row, tokens in enumerate(lists):
        asked = [at for at, token in enumerate(tokens) if token != PAD]
        values[row, asked] = found.row(skipped + row)
    with io.BytesIO() as buffer:
        np.save(buffer, values, allow_pickle=False)
        return base64.b64encode(buffer.getbuffer()).decode("ascii")
