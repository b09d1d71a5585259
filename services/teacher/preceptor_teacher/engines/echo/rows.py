"""Positions to rows. Nothing is filled: what the server did not say is missing, entry by entry and row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from preceptor.types import IdLogprobs, Rows, Validity, Want
from preceptor_serving.engines.plan import RowPlan
from preceptor_teacher.engines.echo.dialects import Listed, Position


def rows_of(positions: Sequence[Position], plan: RowPlan, want: Want, tokenizer_size: int) -> Rows:
    """The planned rows. A row whose token has no value, though it was wanted, is missing as a whole."""
    chosen = [positions[index] for index in plan.prefix_tokens.tolist()]
    own = np.array([one.own for one in chosen], np.float32)
    lists = _lists(chosen, want.topk, tokenizer_size) if want.topk else None
    missing = np.zeros(len(chosen), bool)
    if want.sampled:
        missing |= np.isnan(own)
    if lists is not None:
        missing |= np.isnan(lists.logprobs).all(axis=1)
        lists.logprobs[missing] = np.nan
    own[missing] = np.nan
    validity = np.where(missing, Validity.MISSING_PROVIDER, Validity.OK).astype(np.uint8)
    return Rows(plan.start, validity, sampled=own if want.sampled else None, topk=lists)


def _lists(positions: Sequence[Position], k: int, tokenizer_size: int) -> IdLogprobs:
    ids = np.zeros((len(positions), k), np.uint32)
    logprobs = np.full((len(positions), k), np.nan, np.float32)
    for row, one in enumerate(positions):
        found = _best(one.top or {}, k, tokenizer_size)
        ids[row], logprobs[row, : len(found)] = _distinct([token for token, _ in found], k), [value for _, value in found]
    return IdLogprobs(ids, logprobs)


def _best(listed: Listed, k: int, tokenizer_size: int) -> list[tuple[int, float]]:
    """The k likeliest, ties by the lower id. A token that stands in the list only because it was given falls out at its end."""
    real = ((token, value) for token, value in listed.items() if token < tokenizer_size and not math.isnan(value))
    return sorted(real, key=lambda one: (-one[1], one[0]))[:k]


def _distinct(ids: Sequence[int], k: int) -> list[int]:
    """Places without a value have an id all the same, one that the row does not have yet."""
    spare = (token for token in range(len(ids) + k) if token not in ids)
    return [*ids, *(next(spare) for _ in range(k - len(ids)))]
