"""Outcomes for people: a table in which every column keeps its place however long a text is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from preceptor.errors import PreceptorError
from preceptor.grade_view.asking import Outcome
from preceptor.grade_view.lines import summary
from preceptor.score_view.text import safe
from preceptor.types import CriterionVerdict, Verdict

SHOWN_CHARS = 400  # of one text: more than a terminal's line, and never a whole megabyte
NARROWEST = {"record": 6, "prompt": 8, "response": 12, "reward": 6, "what was said": 16, "tokens": 6}
WEIGHTS = {"prompt": 1, "response": 2, "what was said": 2}
NUMBERS = ("reward", "tokens")


def show(outcomes: Sequence[Outcome], by: str, console: Console) -> None:
    """Every record in its line, and below them all of it in one."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", expand=True)
    for name, width in NARROWEST.items():
        side = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=side, min_width=width, ratio=WEIGHTS.get(name), no_wrap=True, overflow="ellipsis")
    for outcome in outcomes:
        table.add_row(*_row(outcome))
    console.print(table)
    console.print(Text(f"{by}: {summary(outcomes)}"))


def _row(outcome: Outcome) -> tuple[Text, ...]:
    record, graded = outcome.record, outcome.graded
    name = record.source.rpartition(":")[2] if record.id is None else str(record.id)
    texts = (_short(name), _short(record.item.prompt), _short(record.item.response))
    if isinstance(graded, PreceptorError):
        return (*texts, Text("failed", style="red"), _short(f"{graded.code}: {graded.message}"), Text("-"))
    reward = Text("none", style="yellow") if graded.reward is None else Text(f"{graded.reward:.4g}")
    return (*texts, reward, _short(_said(graded)), Text(str(graded.tokens)))


def _said(verdict: Verdict) -> str:
    """The one thing beside the number that a person wants to know first."""
    criteria = " ".join(map(_criterion, verdict.criteria))
    return verdict.reason or verdict.critique or criteria


def _criterion(criterion: CriterionVerdict) -> str:
    return f"{criterion.name}={'?' if criterion.score is None else format(criterion.score, '.3g')}"


def _short(text: str) -> Text:
    """Its beginning, with nothing in it that a terminal would obey."""
    return Text(safe(text[:SHOWN_CHARS]))
