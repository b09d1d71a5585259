"""What every signal of every row has to be, from nothing but logits, in float64 and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.types import Rows, Sequence, TailOf, Want
from tests.reference.philox import philox4x32

F64 = NDArray[np.float64]
Logits = Callable[[NDArray[np.uint32]], F64]
"""All logits after a prefix, padding rows of the head included."""

TEACHER_DOMAIN = 0x7465_6163


@dataclass(frozen=True)
class OracleRow:
    """One row's distribution, and the token that came next (None in row R)."""

    row: int
    logprobs: F64
    target: int | None


def oracle_rows(sequence: Sequence, want: Want, logits: Logits) -> list[OracleRow]:
    """The wanted rows, in order."""
    indexed = list(enumerate(response_positions(sequence)))
    if want.window is not None:
        indexed = indexed[want.window.start : want.window.end]
    ids = sequence.ids
    rows = [OracleRow(r, log_softmax(logits(ids[:at]), want.temperature), int(ids[at])) for r, at in indexed]
    if want.next:
        rows.append(OracleRow(len(response_positions(sequence)), log_softmax(logits(ids), want.temperature), None))
    return rows


def response_positions(sequence: Sequence) -> list[int]:
    """Absolute index of every response token."""
    positions, at = [], 0
    for segment in sequence.segments:
        if segment.kind == "response":
            positions += range(at, at + len(segment.ids))
        at += len(segment.ids)
    return positions


def log_softmax(logits: F64, temperature: float) -> F64:
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = scaled - scaled.max()
    return scaled - math.log(math.fsum(np.exp(scaled)))


def entropy(logprobs: F64) -> float:
    return -math.fsum(math.exp(x) * x for x in logprobs if x > -700)


def tail(logprobs: F64, returned: set[int]) -> float:
    """Log-mass of everything outside the returned ids."""
    mass = math.fsum(math.exp(x) for i, x in enumerate(logprobs) if i not in returned)
    return math.log(mass) if mass > 0 else -math.inf


def returned_ids(rows: Rows, index: int, want: Want, target: int | None) -> set[int]:
    """The ids that the tail of this row leaves out, read off the reply itself."""
    union, ids = want.tail is TailOf.UNION, set[int]()
    if rows.topk is not None and (union or want.tail is TailOf.TOPK):
        ids |= set(rows.topk.ids[index].tolist())
    if want.candidates is not None and (union or want.tail is TailOf.CANDIDATES):
        ids |= set(want.candidates.row(index).tolist())
    if union and rows.samples is not None:
        ids |= set(rows.samples.ids[index].tolist())
    if union and want.sampled and target is not None:
        ids.add(target)
    return ids


def draw_interval(logprobs: F64, token: int, real_ids: int) -> tuple[float, float]:
    """The uniform numbers that draw this token by inverse CDF in id order among the real ids."""
    mass = np.exp(logprobs[:real_ids])
    total = math.fsum(mass)
    return math.fsum(mass[:token]) / total, math.fsum(mass[: token + 1]) / total


def teacher_uniforms(seed: int, row: int, draws: int) -> list[float]:
    """The numbers behind `samples(draws)` of a row: counter (draw, row, 0, domain), key the seed."""
    numbers = []
    for j in range(draws):
        words = philox4x32(np.array([j, row, 0, TEACHER_DOMAIN]), np.array([seed & 0xFFFFFFFF, seed >> 32]))
        numbers.append(((int(words[0]) << 21) | (int(words[1]) >> 11)) * 2.0**-53)
    return numbers
