"""The table of `preceptor score` on terminals of different widths."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from preceptor.client.rollout import Piece
from preceptor.score_view.asking import Alternative, Look, Token
from preceptor.score_view.paint import show
from preceptor.types import ModelRef, Receipt, Validity

BEST = tuple(Alternative(id_, f"word{id_}", -0.5 * id_) for id_ in range(1, 8))
DRAWN = Token(0, 1, "word1", Piece(b"word1", False), Validity.OK, -0.5, -0.6, BEST)


@pytest.mark.parametrize("width", [80, 200])
def test_every_favourite_is_shown_whole_however_narrow_the_terminal(width: int) -> None:
    out = io.StringIO()
    look = Look("drawn", "", (DRAWN,), Receipt(ModelRef("big"), engine="hf", dtype="f32"))
    show([look], "disagreement", rows=True, console=Console(file=out, width=width, _environ={}))
    told = " ".join(out.getvalue().split())
    for one in BEST:
        assert f"'word{one.id}' {math.exp(one.logprob):.1%}" in told
    assert max(map(len, out.getvalue().splitlines())) <= width
