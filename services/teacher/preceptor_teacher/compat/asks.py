"""What all dialects share: prompts of token ids, the question that each becomes, and the rows that come back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag

from preceptor import limits
from preceptor.client.teacher import NO_OPTIONS, Result, read_reply, score_request
from preceptor.errors import InvalidArgument, PreceptorError, TooLarge, Unsupported
from preceptor.types import Ids, Receipt, Rows, ScoreItem, Validity, Want
from preceptor.types import Sequence as Tokens
from preceptor_serving.frame.call import Call
from preceptor_teacher.rest.bodies import TokenId

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService

_ITEM = re.compile(r"^items(?:\[(\d+)\])?\.?(.*)$")
_TOKEN = re.compile(r"^sequence\.segments\[(\d+)\]\.\w+\[(\d+)\]$")

MAX_PROMPTS = 1024
MAX_ASKED_IDS = 1 << 24
"""Ids to score, of all rows of a request together; a field that is repeated for each row could ask for any number."""

TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Batch = Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]


def form(value: object) -> str:
    """Which of its forms a prompt has, by its first entry."""
    first = next(iter(value), None) if isinstance(value, list) else value
    if isinstance(first, str):
        return "texts" if isinstance(value, list) else "text"
    return "batch" if isinstance(first, list) else "ids"


Prompts = Annotated[
    Annotated[TokenIds, Tag("ids")]
    | Annotated[Batch, Tag("batch")]
    | Annotated[str, Tag("text")]
    | Annotated[list[str], Tag("texts")],
    Discriminator(form),
]
"""One prompt or several, as dialects spell it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a dialect calls the things that a refusal may be about."""

    prompts: str
    wants: Mapping[str, str] = field(default_factory=dict[str, str])
    single: bool = False
    """One prompt is asked about, and its tokens have one index."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt; its tokens from position `first` on are scored, after those before it."""

    ids: Sequence[int]
    first: int
    want: Want

    @property
    def item(self) -> ScoreItem:
        return ScoreItem(Tokens.of(self.ids[: self.first], self.ids[self.first :]), self.want)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one prompt: row i is about position `ask.first + i`, and after the last of them comes `next`'s."""

    ask: Ask
    rows: Rows
    receipt: Receipt

    @property
    def scored(self) -> int:
        """Rows about tokens of the prompt."""
        return self.rows.count - self.rows.has_next

    @property
    def sampled(self) -> NDArray[np.float32]:
        """The log-probabilities of the prompt's own tokens."""
        found = self.rows.sampled
        return np.zeros(0, np.float32) if found is None else found[: self.scored]

    def topk(self, width: int) -> tuple[Ids, NDArray[np.float32]]:
        """Ids and log-probabilities [rows, width] of the most likely, the row of `next` included."""
        lists = self.rows.topk
        if lists is None:
            empty = np.zeros((self.rows.count, 0), np.float32)
            return empty.astype(np.uint32), empty
        return lists.ids[:, :width], lists.logprobs[:, :width]


def token_prompts(prompts: Any, name: str) -> tuple[list[list[int]], bool]:
    """The prompts, and whether it was one alone. Text is refused: which ids it stands for is the student's to say."""
    if form(prompts) in ("text", "texts"):
        raise InvalidArgument(
            f"{name} is text; this server reads token ids",
            field=name,
            value="text",
            limit="a list of token ids, or a list of such lists",
            hint="encode it with the student's own tokenizer and send the ids",
        )
    alone = form(prompts) == "ids"
    return ([prompts] if alone else list(prompts)), alone


def check_asked(rows: int, width: int, field: str) -> None:
    """Refuses a table of ids to score before it is made."""
    if rows * width > MAX_ASKED_IDS:
        raise TooLarge(
            f"{field} asks for {width} values at each of {rows} tokens",
            field=field,
            value=f"{rows * width} values",
            limit=f"<= {MAX_ASKED_IDS} values",
            hint="ask for fewer ids, or send fewer tokens in one request",
        )


def scale_of(temperature: float | None) -> float:
    """The temperature that divides the logits. 0 is a sampler's word for the most likely token, and scales nothing."""
    return temperature or 1.0


async def ask(service: TeacherService, call: Call, teacher: str, asks: Sequence[Ask], names: Names) -> list[Answer]:
    """One answer for each, in order; the first thing that is wrong with any of them is raised in the dialect's words.

    These dialects have no word for a missing value, and trainers put 0.0 in its place: so a row without a value is an error.
    """
    items = [one.item for one in asks]
    request = score_request(teacher, items, NO_OPTIONS)
    try:
        limits.check(request)
        results = read_reply(await service.score(request, call), items)
        answers = [_answer(one, result) for one, result in zip(asks, results, strict=True)]
    except PreceptorError as error:
        raise _in_their_words(error, asks, names) from error
    for index, answer in enumerate(answers):
        _check_whole(answer, index, names)
    return answers


def _answer(asked: Ask, result: Result) -> Answer:
    if isinstance(result, PreceptorError):
        raise result
    return Answer(asked, result.rows, result.receipt)


def _check_whole(answer: Answer, index: int, names: Names) -> None:
    missing = _missing_rows(answer)
    if len(missing):
        row = int(missing[0])
        raise Unsupported(
            "the teacher has no value for this token, and this dialect no word for that",
            field=_place(names, index, answer.ask.first + row),
            value=str(Validity(answer.rows.validity[row])).lower(),
            hint="POST /v1/score says which values are missing",
        )


def _missing_rows(answer: Answer) -> NDArray[np.intp]:
    """Rows that lack a value, or one of their values."""
    rows = answer.rows
    missing = rows.validity != Validity.OK
    missing[: len(answer.sampled)] |= np.isnan(answer.sampled)
    if rows.topk is not None:
        missing |= np.isnan(rows.topk.logprobs).any(axis=1)
    if rows.candidates is not None:
        missing |= np.array([np.isnan(rows.candidates.row(row)).any() for row in range(rows.count)], bool)
    return np.flatnonzero(missing)


def _in_their_words(error: PreceptorError, asks: Sequence[Ask], names: Names) -> PreceptorError:
    """The same error about the field that the caller sent."""
    found = _ITEM.match(error.field)
    if found is None:
        return error
    index, rest = int(found[1] or 0), found[2]
    token = _TOKEN.match(rest)
    if token is not None:
        error.field = _place(names, index, int(token[2]) + (asks[index].first if int(token[1]) else 0))
    elif rest.startswith("want."):
        error.field = next((theirs for ours, theirs in names.wants.items() if rest.startswith(f"want.{ours}")), rest)
    else:
        error.field = _place(names, index) if found[1] else names.prompts
    return error


def _place(names: Names, index: int, position: int | None = None) -> str:
    prompt = names.prompts if names.single else f"{names.prompts}[{index}]"
    return prompt if position is None else f"{prompt}[{position}]"
