"""SGLang's `/generate` with `return_logprob`: triples of log-probability, id and null, the first of them without a value.

Its log-probabilities of the input are those of the model itself, whatever `temperature` says.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, Tag

from preceptor.errors import InvalidArgument
from preceptor.types import ModelInfo, RaggedIds, Want
from preceptor_teacher.compat.asks import Answer, Ask, Batch, Names, TokenIds, check_asked, form, token_prompts
from preceptor_teacher.compat.positions import list_of
from preceptor_teacher.compat.sampling import Drawing, check_max_tokens, check_neutral
from preceptor_teacher.rest.bodies import Body, Count
from preceptor_teacher.rest.convert import receipt_answer

OUTPUT_ONLY = -1
MAX_RID_CHARS = 256
WANTS = {"topk": "top_logprobs_num", "candidates": "token_ids_logprob", "next": "sampling_params.max_new_tokens"}
Triple = tuple[float | None, int, None]
InputIds = Annotated[
    Annotated[TokenIds, Tag("ids")] | Annotated[Batch, Tag("batch")],
    Discriminator(form),
]


class SglangSampling(Drawing):
    """The fields of SGLang's sampling parameters."""

    max_new_tokens: Count | None = 128
    """1: the most likely next token. 0: none. More is refused: this server scores."""

    temperature: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = None
    """Without effect, as in SGLang: log-probabilities of the input are not scaled, and nothing is drawn."""

    no_stop_trim: Any = None
    sampling_seed: Any = None


class GenerateBody(Body):
    """The fields of the request."""

    input_ids: InputIds
    sampling_params: SglangSampling = Field(default_factory=SglangSampling)
    return_logprob: bool | None = None
    logprob_start_len: Annotated[int, Field(ge=OUTPUT_ONLY)] | None = None
    """The first listed position; its own value is null. -1: only what was generated."""

    top_logprobs_num: Count | None = None
    token_ids_logprob: TokenIds | None = None
    """Ids whose log-probabilities are wanted at every position."""

    rid: Annotated[str, Field(max_length=MAX_RID_CHARS)] | None = None
    text: Any = None
    input_embeds: Any = None
    image_data: Any = None
    stream: Any = None
    return_text_in_logprobs: Any = None
    return_hidden_states: Any = None
    lora_path: Any = None


def read(body: GenerateBody) -> tuple[list[Ask], Names]:
    """One question for each prompt."""
    sampling = body.sampling_params
    check_neutral(body)
    check_neutral(sampling, "sampling_params.")
    check_max_tokens(sampling.max_new_tokens, "sampling_params.max_new_tokens")
    prompts, alone = token_prompts(body.input_ids, "input_ids")
    generates = sampling.max_new_tokens == 1
    if not generates and _start(body) is None:
        raise InvalidArgument(
            "nothing is asked for", field="logprob_start_len", limit=">= 0", hint="return_logprob: true, logprob_start_len: 0"
        )
    check_asked(sum(map(len, prompts)), len(body.token_ids_logprob or ()), "token_ids_logprob")
    names = [f"input_ids[{index}]" if not alone else "input_ids" for index in range(len(prompts))]
    asks = [_ask(body, ids, name, generates=generates) for ids, name in zip(prompts, names, strict=True)]
    return asks, Names("input_ids", WANTS, alone)


def _start(body: GenerateBody) -> int | None:
    """The first position that is listed; None where the input is not."""
    start = body.logprob_start_len
    return start if body.return_logprob and start is not None and start != OUTPUT_ONLY else None


def _ask(body: GenerateBody, ids: list[int], field: str, *, generates: bool) -> Ask:
    first, start = len(ids), _start(body)
    if start is not None:
        if start > len(ids):
            raise InvalidArgument(
                f"{field} has {len(ids)} tokens", field="logprob_start_len", value=start, limit=f"<= {len(ids)}"
            )
        first = min(start + 1, len(ids))
    rows = len(ids) - first + generates
    listed = bool(body.return_logprob)
    candidates = _at_each(rows, body.token_ids_logprob) if listed and body.token_ids_logprob else None
    topk = max((body.top_logprobs_num or 0) if listed else 0, int(generates))
    return Ask(ids, first, Want(sampled=start is not None, topk=topk, candidates=candidates, next=generates))


def _at_each(rows: int, ids: list[int]) -> RaggedIds:
    return RaggedIds(np.arange(rows + 1, dtype=np.uint32) * np.uint32(len(ids)), np.tile(np.array(ids, np.uint32), rows))


def write(body: GenerateBody, answers: Sequence[Answer], alone: bool) -> Any:
    """One object, or one for each prompt, whose long lists are made when they are sent."""
    replies = [_reply(body, answer, index, alone) for index, answer in enumerate(answers)]
    return replies[0] if alone else replies


def _reply(body: GenerateBody, answer: Answer, index: int, alone: bool) -> dict[str, Any]:
    generated = [int(answer.topk(1)[0][-1, 0])] if answer.rows.has_next else []
    name = body.rid or uuid.uuid4().hex
    meta: dict[str, Any] = {
        "id": name if alone else f"{name}_{index}",
        "finish_reason": {"type": "length", "length": len(generated)},
        "prompt_tokens": len(answer.ask.ids),
        "completion_tokens": len(generated),
        "cached_tokens": answer.receipt.tokens_reused,
        "preceptor": receipt_answer(answer.receipt),
    }
    if body.return_logprob:
        meta |= _logprobs(body, answer, generated)
    return {"text": "", "output_ids": generated, "meta_info": meta}


def _logprobs(body: GenerateBody, answer: Answer, generated: list[int]) -> dict[str, Any]:
    width, before = body.top_logprobs_num or 0, _before(body, answer)
    ids, logprobs = answer.topk(max(width, 1))
    drawn = [(_plain(logprobs[-1, 0]), generated[0], None)] if generated else []
    found: dict[str, Any] = {
        "input_token_logprobs": list_of(itertools.chain(((None, token, None) for token in before), _own(answer))),
        "output_token_logprobs": drawn,
        "output_token_logprobs_length": len(drawn),
    }
    if width:
        found |= _split("top_logprobs", lambda row: _triples(ids[row], logprobs[row]), answer, len(before))
    lists, candidates = body.token_ids_logprob, answer.rows.candidates
    if lists and candidates is not None:
        found |= _split("token_ids_logprobs", lambda row: _triples(lists, candidates.row(row)), answer, len(before))
    return found


def _before(body: GenerateBody, answer: Answer) -> list[int]:
    """The first listed token, which SGLang gives no value even where one exists."""
    start = _start(body)
    return [] if start is None else list(answer.ask.ids[start : answer.ask.first])


def _own(answer: Answer) -> Iterator[Triple]:
    for token, value in zip(answer.ask.ids[answer.ask.first :], answer.sampled, strict=answer.scored > 0):
        yield (_plain(value), token, None)


def _split(kind: str, listed: Callable[[int], list[Triple]], answer: Answer, before: int) -> dict[str, Any]:
    """Rows about the input, behind as many nulls as there are tokens without a value, and the row of the next token."""
    return {
        f"input_{kind}": list_of(itertools.chain([None] * before, map(listed, range(answer.scored)))),
        f"output_{kind}": [listed(row) for row in range(answer.scored, answer.rows.count)],
    }


def _triples(ids: Any, values: Any) -> list[Triple]:
    return [(_plain(value), int(token), None) for value, token in zip(values, ids, strict=True)]


def _plain(value: Any) -> float | None:
    """Probability zero is null, as SGLang's encoder writes an infinity."""
    return None if np.isneginf(value) else float(value)


def model_info(info: ModelInfo) -> dict[str, Any]:
    """`/get_model_info`."""
    name = info.model.name
    return {"model_path": name, "served_model_name": name, "tokenizer_path": name, "is_generation": True}
