"""Services to looks: a prompt is rendered and answered by the rollout service, the answer is scored by the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from preceptor import types
from preceptor.client.rollout import AsyncRolloutClient, FailedRollout, GenerateOptions, Piece, Pieces, Prompt, user_says
from preceptor.client.teacher import AsyncTeacherClient, ScoreOptions
from preceptor.errors import Corrupt, PreceptorError
from preceptor.score_view.subject import Subject
from preceptor.score_view.text import alone, readable
from preceptor.types import Ids, Receipt, Scored, ScoreItem, Validity, Want
from preceptor.types.scores import F32


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the teacher would rather have read."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One response token under both models; NaN is a missing value."""

    row: int
    id: int
    text: str
    piece: Piece
    validity: Validity
    teacher: float
    student: float
    top: tuple[Alternative, ...]

    @property
    def disagreement(self) -> float:
        """By how many nats the student found its token likelier than the teacher does; 0 where both say never."""
        return 0.0 if self.student == self.teacher else self.student - self.teacher


@dataclass(frozen=True, slots=True)
class Look:
    """One response, token by token."""

    source: str
    prompt: str
    tokens: tuple[Token, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Scoring:
    """Who scores, and what else is wanted. Temperature divides the logits of both models: otherwise they do not compare."""

    teacher: str
    top: int = 0
    temperature: float = 1.0


async def render_prompt(rollout: AsyncRolloutClient, text: str, *, raw: bool) -> Ids:
    """A user's turn through the student's template, or the text as it stands."""
    return (await rollout.render([text if raw else user_says(text)])).ids[0]


async def draw(rollout: AsyncRolloutClient, prompt: Ids, options: GenerateOptions) -> Subject:
    """The student's answer, with its own log-probabilities."""
    outcomes = [outcome async for outcome in rollout.generate([Prompt(0, prompt)], options)]
    if len(outcomes) != 1:
        raise Corrupt("another number of rollouts than prompts", field="rollouts", value=len(outcomes), limit=1)
    outcome = outcomes[0]
    if isinstance(outcome, FailedRollout):
        raise outcome.error
    ended = f"{outcome.model.name} step {outcome.model.step}, ended by {outcome.finish_reason.name.lower()}"
    return Subject(outcome.sequence, outcome.behaviour.logprob_policy, f"drawn from {ended}")


async def encode(rollout: AsyncRolloutClient, prompt: Ids, response: str) -> Subject:
    """A text that nobody drew: its ids are the tokenizer's choice."""
    rendered = await rollout.render([response])
    return Subject(types.Sequence.of(prompt, rendered.ids[0]), None, "encoded from text")


async def look_at(
    rollout: AsyncRolloutClient, teacher: AsyncTeacherClient, subjects: Sequence[Subject], scoring: Scoring
) -> list[Look]:
    """One look for each subject. A teacher of another tokenizer than the student's refuses them all."""
    prompts = await rollout.pieces([_prompt_ids(one) for one in subjects])
    options = ScoreOptions(tokenizer_sha256=prompts.tokenizer_sha256)
    want = Want(sampled=True, topk=scoring.top, temperature=scoring.temperature)
    results = await teacher.score(scoring.teacher, [ScoreItem(one.sequence, want) for one in subjects], options)
    scored = [_succeeded(result) for result in results]
    words = await rollout.pieces([one.sequence.response_ids for one in subjects])
    tops = await _top_pieces(rollout, scored)
    parts = zip(subjects, scored, prompts.lists, words.lists, tops, strict=True)
    return [
        Look(subject.source, "".join(readable(prompt)), _tokens(subject, one, pieces, top), one.receipt)
        for subject, one, prompt, pieces, top in parts
    ]


def _prompt_ids(subject: Subject) -> Ids:
    """What stands before the first response token."""
    targets = subject.sequence.targets
    return subject.sequence.ids[: targets[0]] if len(targets) else subject.sequence.ids


def _succeeded(result: Scored | PreceptorError) -> Scored:
    if isinstance(result, PreceptorError):
        raise result
    return result


async def _top_pieces(rollout: AsyncRolloutClient, scored: Iterable[Scored]) -> tuple[tuple[Piece, ...], ...]:
    """The pieces of every top-k list, row after row; nothing is asked where none was wanted."""
    lists = [np.zeros(0, np.uint32) if one.rows.topk is None else one.rows.topk.ids.reshape(-1) for one in scored]
    pieces = Pieces(((),) * len(lists), b"") if not any(map(len, lists)) else await rollout.pieces(lists)
    return pieces.lists


def _tokens(subject: Subject, scored: Scored, pieces: Sequence[Piece], top: Sequence[Piece]) -> tuple[Token, ...]:
    ids, count = subject.sequence.response_ids.tolist(), subject.sequence.row_count
    teacher, student = _column(scored.rows.sampled, count), _column(subject.student, count)
    return tuple(
        Token(
            row=row,
            id=ids[row],
            text=text,
            piece=pieces[row],
            validity=Validity(scored.rows.validity[row]),
            teacher=float(teacher[row]),
            student=float(student[row]),
            top=_alternatives(scored, row, top),
        )
        for row, text in enumerate(readable(pieces))
    )


def _column(values: F32 | None, count: int) -> F32:
    return np.full(count, np.nan, np.float32) if values is None else values


def _alternatives(scored: Scored, row: int, pieces: Sequence[Piece]) -> tuple[Alternative, ...]:
    top = scored.rows.topk
    if top is None:
        return ()
    ids: list[int] = top.ids[row].tolist()
    texts = [alone(piece) for piece in pieces[row * len(ids) : (row + 1) * len(ids)]]
    return tuple(map(Alternative, ids, texts, map(float, top.logprobs[row])))
