"""Rows as vLLM lists them: at each position the token itself, then the most likely others, each with its rank."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preceptor_serving.doors.rest_pieces import Pieces
from preceptor_teacher.compat.asks import Answer

ZERO = -9999.0
"""What vLLM writes for the logarithm of zero: JSON has no infinity."""


class Entry(NamedTuple):
    """One listed token. Its rank is not known where no list was asked for."""

    token: int
    logprob: float
    rank: int | None


def prompt_entries(answer: Answer, width: int) -> Iterator[list[Entry]]:
    """The tokens from position `ask.first` on. One outside its list of `width` ids has the rank behind the last of them."""
    ids, logprobs = answer.topk(width)
    own = finite(answer.sampled).tolist()
    for row, (target, logprob) in enumerate(zip(answer.ask.ids[answer.ask.first :], own, strict=True)):
        listed = ids[row].tolist()
        values = finite(logprobs[row]).tolist()
        yield _entries(target, logprob, listed, values)


def next_entries(answer: Answer, width: int) -> list[Entry]:
    """The most likely next token, first of `width`."""
    ids, logprobs = answer.topk(max(width, 1))
    pairs = zip(ids[-1].tolist(), finite(logprobs[-1]).tolist(), strict=True)
    return [Entry(token, logprob, rank) for rank, (token, logprob) in enumerate(pairs, start=1)]


def _entries(target: int, logprob: float, listed: list[int], values: list[float]) -> list[Entry]:
    rank = listed.index(target) + 1 if target in listed else len(listed) + 1 if listed else None
    others = [Entry(token, value, at) for at, (token, value) in enumerate(zip(listed, values, strict=True), 1) if token != target]
    return [Entry(target, logprob, rank), *others]


def finite(values: NDArray[np.float32]) -> NDArray[Any]:
    """With vLLM's number for probability zero."""
    return np.where(np.isneginf(values), np.float32(ZERO), values)


def prompt_logprobs(answer: Answer, width: int) -> Pieces:
    """`prompt_logprobs` of one prompt: null for the first token, which nothing predicts."""
    return Pieces(_positions(answer, width))


def _positions(answer: Answer, width: int) -> Iterator[str]:
    yield "[null"
    for entries in prompt_entries(answer, width):
        listed = ",".join(
            f'"{token}":{{"logprob":{logprob!r},"rank":{"null" if rank is None else rank},"decoded_token":null}}'
            for token, logprob, rank in entries
        )
        yield f",{{{listed}}}"
    yield "]"


def list_of(values: Iterable[Any]) -> Pieces:
    """A JSON list, an entry at a time."""
    return Pieces(_list(values))


def _list(values: Iterable[Any]) -> Iterator[str]:
    yield "["
    for index, value in enumerate(values):
        yield f"{',' if index else ''}{json.dumps(value, separators=(',', ':'), allow_nan=False)}"
    yield "]"
