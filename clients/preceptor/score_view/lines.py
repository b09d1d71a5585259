"""Looks for programs: one JSON object, or one line of tab-separated values, for each row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from preceptor.score_view.asking import Alternative, Look, Token

COLUMNS = ("response", "row", "id", "token", "teacher", "student", "disagreement", "top")


def json_rows(looks: Sequence[Look]) -> Iterator[dict[str, Any]]:
    """The rows of every response, in order. Null is a missing value, "-inf" probability zero."""
    for number, look in enumerate(looks):
        for token in look.tokens:
            yield {"response": number, "teacher": look.receipt.model.name, **_row(token)}


def cells(looks: Sequence[Look]) -> Iterator[tuple[str, ...]]:
    """The same as text under `COLUMNS`; tokens stand as JSON strings, so that no tab or line break is taken for one of ours."""
    for number, look in enumerate(looks):
        for token in look.tokens:
            top = " ".join(f"{_quoted(one.text)}:{_told(one.logprob)}" for one in token.top)
            numbers = (token.teacher, token.student, token.disagreement)
            yield str(number), str(token.row), str(token.id), _quoted(token.text), *map(_told, numbers), top


def _row(token: Token) -> dict[str, Any]:
    return {
        "row": token.row,
        "id": token.id,
        "text": token.text,
        "bytes": token.piece.utf8.hex(),
        "special": token.piece.is_special,
        "validity": str(token.validity).lower(),
        "teacher_logprob": _number(token.teacher),
        "student_logprob": _number(token.student),
        "disagreement": _number(token.disagreement),
        "top": list(_listed(token.top)),
    }


def _listed(top: Iterable[Alternative]) -> Iterator[dict[str, Any]]:
    for one in top:
        yield {"id": one.id, "text": one.text, "logprob": _number(one.logprob)}


def _number(value: float) -> float | str | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None if math.isnan(value) else "inf" if value > 0 else "-inf"


def _told(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
