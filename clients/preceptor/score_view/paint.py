"""Looks for people: the response in colours, its legend, and a table of rows where it is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from preceptor.score_view.asking import Look, Token
from preceptor.score_view.scale import SCALES, By, Scale, Step
from preceptor.score_view.text import NEWLINE, quoted, safe

PROMPT_CHARACTERS = 600  # its end: what the response answers stands last
MISSING = "dim strike"
NUMBERS = ("teacher", "student", "disagreement")
# At least: a narrow terminal cuts favourites, not these.
NUMBER_WIDTH = {
    "row": 3,
    "token": 5,
    "teacher": 8,
    "student": 8,
    "disagreement": 12,
}


@dataclass(frozen=True, slots=True)
class View:
    """How looks are painted; `plain` says it without colours."""

    by: By
    rows: bool
    plain: bool

    @property
    def scale(self) -> Scale:
        return SCALES[self.by]

    def value(self, token: Token) -> float:
        return token.teacher if self.by == "teacher" else token.disagreement

    def style(self, step: Step | None) -> str:
        if step is None:
            return MISSING
        return step.mark if self.plain else step.style


def show(looks: Sequence[Look], by: By, *, rows: bool, console: Console) -> None:
    """Every look, one after the other."""
    view = View(by, rows, plain=console.no_color)
    for look in looks:
        console.print(_look(look, view), soft_wrap=False)


def _look(look: Look, view: View) -> RenderableType:
    made = look.receipt
    head = Text.assemble((made.model.name, "bold"), f"  {made.engine} {made.dtype}, {len(look.tokens)} tokens, {look.source}")
    parts: list[RenderableType] = [head, Text(), Text(_end_of(look.prompt), style="dim"), Text()]
    parts += [response_text(look.tokens, view), Text(), legend(look.tokens, view), Text(summary(look, view))]
    if view.rows:
        parts.append(rows_table(look.tokens, view))
    return Padding(Group(*parts), (0, 0, 1, 0))


def response_text(tokens: Sequence[Token], view: View) -> Text:
    """The response as it reads, every token on its own ground."""
    text = Text()
    for token in tokens:
        style = view.style(view.scale.step(view.value(token)))
        *lines, last = token.text.split("\n")
        for line in lines:
            text.append(safe(line) + NEWLINE, style=style)
            text.append("\n")
        text.append(safe(last), style=style)
    return text


def legend(tokens: Sequence[Token], view: View) -> Text:
    """Every step of the scale with the number of its tokens; a token without a score is told apart from all of them."""
    found = Counter(view.scale.step(view.value(token)) for token in tokens)
    text = Text.assemble((view.scale.title, "bold"), "\n")
    for step in (*view.scale.steps, *([None] if found[None] else [])):
        text.append(f" {step.label if step else 'missing'}: {found[step]} ", style=view.style(step))
        text.append(" ")
    return text


def summary(look: Look, view: View) -> str:
    """The mean of what is coloured, and the token that is worst."""
    known = [token for token in look.tokens if not math.isnan(view.value(token))]
    if not known:
        return "no token has a score"
    values = [view.value(token) for token in known]
    worst = min(known, key=view.value) if view.by == "teacher" else max(known, key=lambda token: abs(view.value(token)))
    mean = sum(values) / len(values)
    return f"mean {mean:+.4f} nats a token; farthest off: row {worst.row} {quoted(worst.text)} {view.value(worst):+.4f}"


def rows_table(tokens: Sequence[Token], view: View) -> Table:
    """One row a token, with the teacher's own favourites where they were asked for."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    numbers = NUMBERS if any(not math.isnan(token.student) for token in tokens) else NUMBERS[:1]
    for name in ("row", "token", *numbers):
        table.add_column(name, justify="left" if name == "token" else "right", no_wrap=True, min_width=NUMBER_WIDTH[name])
    has_top = any(token.top for token in tokens)
    if has_top:
        table.add_column("top")
    for token in tokens:
        style = view.style(view.scale.step(view.value(token)))
        told = (_told(getattr(token, name)) for name in numbers)
        top = [Columns(_favourites(token), padding=(0, 2))] if has_top else []  # on as many lines as the width asks for
        table.add_row(str(token.row), Text(quoted(token.text), style=style), *told, *top)
    return table


def _favourites(token: Token) -> Iterator[Text]:
    """The token that was drawn stands out among them."""
    for one in token.top:
        share = Text(f" {math.exp(one.logprob):.1%}", style="dim")
        yield Text.assemble((quoted(one.text), "bold underline" if one.id == token.id else ""), share)


def _end_of(prompt: str) -> str:
    shown = safe(prompt)
    return shown if len(shown) <= PROMPT_CHARACTERS else "… " + shown[-PROMPT_CHARACTERS:]


def _told(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
