"""Which response of a group is the best; the reward is 1 for it and 0 for the others.

The judge sees all responses at once, in two orders between which every response changes its place. Where the two answers differ
both named responses have half, so a judge that prefers a place rewards nobody more than others on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Spent, missing, verdict_at
from preceptor_teacher.graders.groups import Group, all_of, group_of
from preceptor_teacher.graders.protocol import GraderSpec, GroupGrader, Means
from preceptor_teacher.graders.sampling import Panel
from preceptor_teacher.graders.verdicts import NoVerdict, one_of, read_answer, schema_with
from preceptor_teacher.graders.watching import MISSING, ORDERS, agreement

NAME = "best_of_n"
LETTERS = ascii_lowercase


class BestOfNParams(BaseModel):
    """How often the judge is asked, and what it is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What makes a response the best one, in words; part of the question, outside the fence."""

    samples: int = Field(default=1, ge=1, le=9)
    """How often each order is asked; the reward is the part of all answers that name a response."""


@dataclass(frozen=True, slots=True)
class BestOfN:
    """A `GroupGrader`."""

    params: BestOfNParams
    panel: Panel

    async def grade_group(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """MISSING for the whole group where one order has no answer that can be read. The first response bears the cost."""
        group, spent = group_of(items, NAME, len(LETTERS)), Spent()
        try:
            named = [0] if len(group.texts) == 1 else await self._named(group, spent)
        except NoVerdict as error:
            self.panel.watch(NAME, ORDERS, MISSING)
            return [missing(str(error), spent if place == 0 else Spent()) for place in range(len(items))]
        share = {text: count / len(named) for text, count in Counter(named).items()}
        rewards = [share.get(text, 0.0) for text in group.places]
        return [verdict_at(spent if place == 0 else Spent(), Validity.OK, reward) for place, reward in enumerate(rewards)]

    async def _named(self, group: Group, spent: Spent) -> list[int]:
        """The texts that were named, each order weighing the same."""
        orders = orders_of(len(group.texts))
        plain, turned = await all_of(*(self._order(group, order, spent) for order in orders))
        self.panel.watch(NAME, ORDERS, agreement(same=Counter(plain) == Counter(turned)))
        return plain * len(turned) + turned * len(plain)

    async def _order(self, group: Group, order: Sequence[int], spent: Spent) -> list[int]:
        guidance = self.params.guidance
        letters = await self.panel.answers(lambda n: inquiry_of(group, order, guidance, n), self.params.samples, spent)
        return [order[LETTERS.index(one)] for one in letters]


def orders_of(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As they come, and turned by half: no text stands in the same place twice."""
    plain = tuple(range(count))
    return plain, plain[count // 2 :] + plain[: count // 2]


def inquiry_of(group: Group, order: Sequence[int], guidance: str = "", sample: int = 0) -> Inquiry[str]:
    """What is asked about the texts in this order."""
    letters = tuple(LETTERS[: len(order)])
    return Inquiry(
        f"Say which of the {len(order)} responses to the prompt, {letters[0]} to {letters[-1]}, is the best one.",
        group.labelled(**{letter: group.texts[text] for letter, text in zip(letters, order, strict=True)}),
        'B being the letter of the best response: {"request": "NUMBER", "best": B}',
        lambda number: schema_with(number, best={"type": "string", "enum": letters}),
        lambda text, number: one_of(read_answer(text, number, ("best",))["best"], "best", letters),
        guidance,
        sample,
    )


def _build(params: BestOfNParams, means: Means) -> GroupGrader:
    return BestOfN(params, Panel.of(NAME, means))


SPEC = GraderSpec(NAME, "1 for the best response of a group, 0 for the others", BestOfNParams, _build)
