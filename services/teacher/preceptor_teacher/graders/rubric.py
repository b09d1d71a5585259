"""Criteria of their own for each prompt, with weights; the judge says of every response which it meets.

A rubric is made once a prompt: the judge answers the prompt itself, unless a reference is given, and then says what such an
answer fulfils. Both questions are made of the prompt and the reference alone, so every response to a prompt asks them in the
same words and the judge's client remembers the reply: all are held to the same criteria. A rubric that comes with the request
is taken as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low
from string import ascii_lowercase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from preceptor.types import CriterionVerdict, GradeItem, Validity, Verdict
from preceptor_teacher.api.messages import Message
from preceptor_teacher.graders.asking import Inquiry, Spent, answer_to, missing, verdict_at
from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec, Means
from preceptor_teacher.graders.sampling import Panel, Samples, share_agreeing
from preceptor_teacher.graders.verdicts import NoVerdict, read_answer, schema_with, whole_number, words
from preceptor_teacher.graders.watching import Watch, unwatched

MOST_CRITERIA, MOST_TEXT_CHARS, HEAVIEST = 32, 500, 10
NAME = "rubric"
MOST_RUBRIC_CHARS = 32_000
_TEXT = {"type": "string", "minLength": 1, "maxLength": MOST_TEXT_CHARS}
_CRITERION = {
    "type": "object",
    "properties": {"text": _TEXT, "weight": {"type": "integer", "minimum": 1, "maximum": HEAVIEST}},
    "required": ["text", "weight"],
    "additionalProperties": False,
}


class CriterionParams(BaseModel):
    """One thing that a good response does."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    text: str = Field(min_length=1, max_length=MOST_TEXT_CHARS)
    """What it does, in words."""

    weight: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    """How much it counts beside the others."""

    name: str = Field(default="", max_length=128)
    """What verdicts call it; empty: c1, c2, ... by its place."""


class RubricParams(BaseModel):
    """Where the criteria come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What criteria should look at, in words; part of the question that makes them, outside the fence."""

    criteria: tuple[CriterionParams, ...] = Field(default=(), max_length=MOST_CRITERIA)
    """The rubric of the items' prompt; empty: the judge makes one."""

    samples: Samples = 1
    """How often the judge is asked about a response, an odd number; what most answers say counts."""

    most_criteria: int = Field(default=8, ge=1, le=MOST_CRITERIA)
    """How many the judge may make."""

    @field_validator("criteria")
    @classmethod
    def _named_apart(cls, criteria: tuple[CriterionParams, ...]) -> tuple[CriterionParams, ...]:
        names = [one.name for one in named(criteria)]
        if len(set(names)) != len(names):
            raise ValueError("two criteria have the same name")
        return criteria


def named(criteria: Sequence[CriterionParams]) -> tuple[CriterionParams, ...]:
    """The criteria, each with a name."""
    return tuple(one if one.name else one.model_copy(update={"name": f"c{n}"}) for n, one in enumerate(criteria, 1))


@dataclass(frozen=True, slots=True)
class Rubric:
    """A `Grader`. The reward is the weight of the criteria that are met, of all weight: from 0 to 1."""

    params: RubricParams
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    watch: Watch = unwatched

    async def grade(self, item: GradeItem) -> Verdict:
        """MISSING where the judge refused, or where a rubric or its verification could not be read twice."""
        spent = Spent()
        try:
            criteria = self.params.criteria or await self.induced(item.prompt, item.reference, spent)
        except NoVerdict as error:
            return missing(str(error), spent)
        return await self.held_to(named(criteria), item, spent)

    async def induced(
        self, prompt: str, reference: str, spent: Spent, responses: Sequence[str] = ()
    ) -> tuple[CriterionParams, ...]:
        """The judge's rubric; `NoVerdict` where it has none."""
        good = reference or await self._own_answer(prompt, spent)
        inquiry = induction_of(prompt, good, self.params, responses)
        return await answer_to(inquiry, self.ask, spent, self.secret)

    async def held_to(self, criteria: Sequence[CriterionParams], item: GradeItem, spent: Spent) -> Verdict:
        """What a response meets; MISSING where the judge did not say."""
        inquiry, panel = verification_of(item, criteria), Panel(NAME, self.ask, self.secret, self.watch)
        try:
            answers = await panel.repeated(lambda n: replace(inquiry, sample=n), self.params.samples, spent)
        except NoVerdict as error:
            return missing(str(error), spent)
        met = [median_low(column) for column in zip(*answers, strict=True)]
        judged = tuple(_judged(one, passed) for one, passed in zip(criteria, met, strict=True))
        return verdict_at(spent, Validity.OK, weighted(criteria, met), criteria=judged, agreement=share_agreeing(answers))

    async def _own_answer(self, prompt: str, spent: Spent) -> str:
        reply = await self.ask([Message(role="user", content=prompt)])
        spent.add(reply)
        if reply.refused or reply.finish_reason == "length" or not reply.text.strip():
            raise NoVerdict("the judge gave no whole answer of its own to make a rubric of")
        return reply.text


def weighted(criteria: Sequence[CriterionParams], met: Sequence[bool]) -> float:
    """The weight that is met, of all weight."""
    heaviest = max(one.weight for one in criteria)
    weights = [one.weight / heaviest for one in criteria]
    return sum(weight for weight, passed in zip(weights, met, strict=True) if passed) / sum(weights)


def induction_of(
    prompt: str, good_answer: str, params: RubricParams, responses: Sequence[str] = ()
) -> Inquiry[tuple[CriterionParams, ...]]:
    """What makes the rubric of a prompt, from what tells the good answer from these responses where there are some."""
    shown = dict(zip(ascii_lowercase, responses, strict=False))
    apart = f", and that tell it from those of the responses {', '.join(shown)} that are worse" if shown else ""
    shape = {"type": "array", "items": _CRITERION, "minItems": 1, "maxItems": params.most_criteria}
    return Inquiry(
        f"Write at most {params.most_criteria} criteria that a good response to the prompt meets, as the reference does{apart}. "
        f"Each can be told true or false of a response, and has an integer weight from 1 to {HEAVIEST} (decisive).",
        {"prompt": prompt, "reference": good_answer, **shown},
        'T being a criterion in words and W its weight: {"request": "NUMBER", "criteria": [{"text": T, "weight": W}, ...]}',
        lambda number: schema_with(number, criteria=shape),
        lambda text, number: _read_criteria(text, number, params.most_criteria),
        params.guidance,
    )


def verification_of(item: GradeItem, criteria: Sequence[CriterionParams]) -> Inquiry[tuple[bool, ...]]:
    """What is asked about one response."""
    lines = json.dumps([one.text for one in criteria], ensure_ascii=False, indent=0)
    shape = {"type": "array", "items": {"type": "boolean"}, "minItems": len(criteria), "maxItems": len(criteria)}
    return Inquiry(
        f"Say of each of the {len(criteria)} criteria, in their order, whether the response to the prompt meets it.",
        {"prompt": item.prompt, "criteria": lines, "response": item.response},
        'M being true or false, one for each criterion: {"request": "NUMBER", "met": [M, ...]}',
        lambda number: schema_with(number, met=shape),
        lambda text, number: _read_met(text, number, len(criteria)),
    )


def _read_criteria(text: str, number: str, most: int) -> tuple[CriterionParams, ...]:
    found = read_answer(text, number, ("criteria",), MOST_RUBRIC_CHARS)["criteria"]
    if not isinstance(found, list) or not 1 <= len(found) <= most:  # pyright: ignore[reportUnknownArgumentType]
        raise NoVerdict(f"the criteria are not a list of 1 to {most}")
    return tuple(_read_criterion(one) for one in found)  # pyright: ignore[reportUnknownVariableType]


def _read_criterion(value: Any) -> CriterionParams:
    if not isinstance(value, Mapping) or value.keys() != {"text", "weight"}:
        raise NoVerdict("a criterion has other members than text and weight")
    text = words(value["text"], "criterion", MOST_TEXT_CHARS)  # pyright: ignore[reportUnknownArgumentType]
    return CriterionParams(text=text, weight=whole_number(value["weight"], "weight", 1, HEAVIEST))


def _read_met(text: str, number: str, count: int) -> tuple[bool, ...]:
    met: Any = read_answer(text, number, ("met",))["met"]
    if not isinstance(met, list) or [type(one) for one in met] != [bool] * count:  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        raise NoVerdict(f"the reply does not say true or false of each of {count} criteria")
    return tuple(met)  # pyright: ignore[reportUnknownArgumentType]


def _judged(criterion: CriterionParams, met: bool) -> CriterionVerdict:
    return CriterionVerdict(criterion.name, Validity.OK, float(met), text=criterion.text, weight=criterion.weight)


def _build(params: RubricParams, means: Means) -> Grader:
    assert means.ask is not None, "a grader that asks belongs to a judge"
    return Rubric(params, means.ask, means.secret, means.watch)


SPEC = GraderSpec(NAME, "the weight of the prompt's own criteria that a response meets, from 0 to 1", RubricParams, _build)
