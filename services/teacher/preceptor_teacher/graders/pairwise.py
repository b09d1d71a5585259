"""Every two responses of a group against each other; the reward is the part of its comparisons that a response wins.

A judge that prefers a place would reward it. So each pair is asked in both orders, and only where both name the same response
has that one won: an order that says otherwise makes a tie, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import CriterionVerdict, GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Spent, missing, verdict_at
from preceptor_teacher.graders.groups import Group, all_of, group_of
from preceptor_teacher.graders.protocol import GraderSpec, GroupGrader, Means
from preceptor_teacher.graders.sampling import Panel, Samples
from preceptor_teacher.graders.verdicts import NoVerdict, one_of, read_answer, schema_with
from preceptor_teacher.graders.watching import MISSING, ORDERS, agreement

NAME = "pairwise"
MOST_TEXTS = 32
FIRST, SECOND, NEITHER = "first", "second", "neither"
_WON = {FIRST: 1, NEITHER: 0, SECOND: -1}


class PairwiseParams(BaseModel):
    """What is compared, how often, and what the judge is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What makes a response the better one, in words; part of the question, outside the fence."""

    samples: Samples = 1
    """How often each order of a pair is asked, an odd number; the median answer counts."""

    ring: int = Field(default=0, ge=0, le=MOST_TEXTS)
    """0: every two are compared, n(n-1) questions; else each with so many that come next, in a ring: 2 n ring questions."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair, as seen from its first text: 1 won, 0 tied, -1 lost; None: the judge did not say."""

    won: int | None
    reason: str = ""

    @property
    def turned(self) -> Compared:
        """As seen from the other text."""
        return self if self.won is None else Compared(-self.won, self.reason)

    @property
    def score(self) -> float | None:
        """1, 0.5 or 0."""
        return None if self.won is None else (1 + self.won) / 2


@dataclass(frozen=True, slots=True)
class Pairwise:
    """A `GroupGrader`."""

    params: PairwiseParams
    panel: Panel

    async def grade_group(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """MISSING for a response of whose comparisons fewer than half could be read."""
        group = group_of(items, NAME, MOST_TEXTS)
        spent = [Spent() for _ in group.texts]
        pairs = list(pairs_of(len(group.texts), self.params.ring))
        found = await all_of(*(self._compared(group, a, b, spent) for a, b in pairs))
        known = dict(zip(pairs, found, strict=True))
        known |= {(b, a): one.turned for (a, b), one in known.items()}
        return [_verdict(group, item, spent[group.places[item]] if first else Spent(), known)
                for item, first in enumerate(group.firsts())]  # fmt: skip

    async def _compared(self, group: Group, a: int, b: int, spent: Sequence[Spent]) -> Compared:
        """Each order is paid by the text that stands first in it."""
        try:
            ahead, behind = await all_of(self._order(group, a, b, spent[a]), self._order(group, b, a, spent[b]))
        except NoVerdict as error:
            self.panel.watch(NAME, ORDERS, MISSING)
            return Compared(None, str(error))
        self.panel.watch(NAME, ORDERS, agreement(same=ahead == -behind))
        return Compared(ahead) if ahead == -behind else Compared(0, "the two orders disagree")

    async def _order(self, group: Group, a: int, b: int, spent: Spent) -> int:
        """The median answer where `a` stands first, of those that could be read; halves are ties."""
        guidance = self.params.guidance
        answers = await self.panel.answers(lambda n: inquiry_of(group, a, b, guidance, n), self.params.samples, spent)
        return int(median(_WON[one] for one in answers))


def pairs_of(count: int, ring: int) -> Iterator[tuple[int, int]]:
    """Which of so many texts are compared, each pair once."""
    for a, b in combinations(range(count), 2):
        if not ring or min(b - a, count - (b - a)) <= ring:
            yield a, b


def inquiry_of(group: Group, a: int, b: int, guidance: str = "", sample: int = 0) -> Inquiry[str]:
    """What is asked about two texts in this order."""
    return Inquiry(
        "Say which of two responses to the prompt is the better one, or that neither is.",
        group.labelled(first=group.texts[a], second=group.texts[b]),
        f'B being "{FIRST}", "{SECOND}" or "{NEITHER}": {{"request": "NUMBER", "better": B}}',
        lambda number: schema_with(number, better={"type": "string", "enum": list(_WON)}),
        lambda text, number: one_of(read_answer(text, number, ("better",))["better"], "better", _WON),
        guidance,
        sample,
    )


def _verdict(group: Group, item: int, spent: Spent, known: Mapping[tuple[int, int], Compared]) -> Verdict:
    """The others that a response was compared with stand in its verdict, by their place in the group."""
    mine = group.places[item]
    others = {place: text for place, text in enumerate(group.places) if place != item and (text == mine or (mine, text) in known)}
    found = {place: Compared(0, "the same text") if text == mine else known[mine, text] for place, text in others.items()}
    scores = [one.score for one in found.values() if one.score is not None]
    if 2 * len(scores) < len(found):
        return missing(next(one.reason for one in found.values() if one.won is None), spent)
    criteria = tuple(_criterion(place, one) for place, one in found.items())
    return verdict_at(spent, Validity.OK, sum(scores) / len(scores), criteria=criteria)


def _criterion(place: int, one: Compared) -> CriterionVerdict:
    validity = Validity.MISSING_PROVIDER if one.won is None else Validity.OK
    return CriterionVerdict(f"against {place}", validity, one.score, one.reason)


def _build(params: PairwiseParams, means: Means) -> GroupGrader:
    return Pairwise(params, Panel.of(NAME, means))


SPEC = GraderSpec(NAME, "the part of its comparisons with the group's others that a response wins", PairwiseParams, _build)
