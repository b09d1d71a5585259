"""TRL's `/get_sequence_logprobs/`, the route of `trl vllm-serve` up to 1.10; TRL 1.16 asks `/v1/completions`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preceptor.errors import InvalidArgument, TooLarge
from preceptor.types import Want
from preceptor_teacher.compat.asks import Answer, Ask, Batch, Names
from preceptor_teacher.compat.positions import list_of, prompt_entries
from preceptor_teacher.rest.bodies import Body, Count

NAMES = Names("sequences", {"topk": "top_logprobs", "temperature": "temperature"})
ENTRY_BYTES = 8  # a value and an id


class SequencesBody(Body):
    """The fields of the request."""

    sequences: Batch
    """Prompt and completion of each, as ids."""

    prompt_lengths: list[Annotated[int, Field(ge=1)]]
    """Scores begin behind so many tokens; nothing predicts the first token of all."""

    top_logprobs: Count = 100
    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    """Divides the logits."""

    response_format: Literal["json", "binary"] = "json"
    """binary: base64 of padded little-endian arrays, inside JSON."""


def read(body: SequencesBody, max_reply_bytes: int) -> tuple[list[Ask], Names]:
    """One question for each sequence."""
    if len(body.prompt_lengths) != len(body.sequences):
        raise InvalidArgument(
            "every sequence has a prompt length",
            field="prompt_lengths",
            value=f"{len(body.prompt_lengths)} lengths",
            limit=f"{len(body.sequences)} lengths",
        )
    for index, (ids, length) in enumerate(zip(body.sequences, body.prompt_lengths, strict=True)):
        if length > len(ids):
            raise InvalidArgument(
                "the prompt is longer than its sequence",
                field=f"prompt_lengths[{index}]",
                value=length,
                limit=f"<= {len(ids)}",
            )
    if body.response_format == "binary":
        _check_padded(body, max_reply_bytes)
    want = Want(sampled=True, topk=body.top_logprobs, temperature=body.temperature)
    return [Ask(ids, length, want) for ids, length in zip(body.sequences, body.prompt_lengths, strict=True)], NAMES


def _check_padded(body: SequencesBody, max_reply_bytes: int) -> None:
    """Padding is as long as the longest: a hundred short ones beside a long one would be gigabytes."""
    longest = max(len(ids) - length for ids, length in zip(body.sequences, body.prompt_lengths, strict=True))
    padded_bytes = len(body.sequences) * longest * (body.top_logprobs + 1) * ENTRY_BYTES
    if padded_bytes > max_reply_bytes:
        raise TooLarge(
            f"padded to the longest completion the arrays would have {padded_bytes} bytes",
            field="sequences",
            value=f"{padded_bytes} bytes",
            limit=f"<= {max_reply_bytes} bytes",
            hint="send fewer sequences at once, such of like length together, or a smaller top_logprobs",
        )


def write(body: SequencesBody, answers: Sequence[Answer]) -> dict[str, Any]:
    """The reply in the format that was asked for."""
    return _binary(body, answers) if body.response_format == "binary" else _lists(body, answers)


def _lists(body: SequencesBody, answers: Sequence[Answer]) -> dict[str, Any]:
    """By rank; a token outside its list stands last in it."""
    width = body.top_logprobs

    def ranked(answer: Answer) -> Any:
        return (sorted(step, key=lambda entry: entry.rank or 1) for step in prompt_entries(answer, width))

    return {
        "logprobs": [list_of([entry.logprob for entry in step] for step in ranked(answer)) for answer in answers],
        "logprob_token_ids": [list_of([entry.token for entry in step] for step in ranked(answer)) for answer in answers],
    }


def _binary(body: SequencesBody, answers: Sequence[Answer]) -> dict[str, Any]:
    """Four arrays, padded with -inf and id 0."""
    lengths = [answer.scored for answer in answers]
    shape = (len(answers), max(lengths), body.top_logprobs)
    logprobs, ids = np.full(shape, -np.inf, "<f4"), np.zeros(shape, "<i4")
    own, own_ids = np.full(shape[:2], -np.inf, "<f4"), np.zeros(shape[:2], "<i4")
    for index, (answer, length) in enumerate(zip(answers, lengths, strict=True)):
        ids[index, :length], logprobs[index, :length] = answer.topk(body.top_logprobs)
        own_ids[index, :length], own[index, :length] = answer.ask.ids[answer.ask.first :], answer.sampled
    return {
        "logprobs_b64": _base64(logprobs),
        "token_ids_b64": _base64(ids),
        "actual_logprobs_b64": _base64(own),
        "actual_token_ids_b64": _base64(own_ids),
        "shape": list(shape),
        "completion_lengths": lengths,
    }


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
