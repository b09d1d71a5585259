"""The same question several times over, each for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from preceptor_teacher.graders.asking import Inquiry, Spent, answer_to
from preceptor_teacher.graders.groups import all_of
from preceptor_teacher.graders.protocol import Ask, Means
from preceptor_teacher.graders.verdicts import NoVerdict
from preceptor_teacher.graders.watching import POSITION, SAMPLES, Watch, agreement, unwatched

T = TypeVar("T")


def _has_a_median(samples: int) -> int:
    if samples % 2 == 0:
        raise ValueError("an even number of answers has no median")
    return samples


Samples = Annotated[int, Field(ge=1, le=9), AfterValidator(_has_a_median)]
"""How often a question is asked: an odd number, so that there is a median."""


def same(answer: Any) -> Hashable:
    """The whole answer."""
    return answer


def share_agreeing(judged: Sequence[Hashable]) -> float | None:
    """The share of pairs of judgements that are equal; None where there is no pair."""
    pairs = len(judged) * (len(judged) - 1)
    return sum(count * (count - 1) for count in Counter(judged).values()) / pairs if pairs else None


@dataclass(frozen=True, slots=True)
class Panel:
    """A judge that is asked the same more than once."""

    grader: str
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    watch: Watch = unwatched

    @classmethod
    def of(cls, grader: str, means: Means) -> Panel:
        """The judge of a served grader."""
        assert means.ask is not None, "a grader that asks belongs to a judge"
        return cls(grader, means.ask, means.secret, means.watch)

    async def answers(self, inquiry_of: Callable[[int], Inquiry[str]], samples: int, spent: Spent) -> list[str]:
        """The places that it names, as `repeated` has them."""
        answers = await self.repeated(inquiry_of, samples, spent)
        for one in answers:
            self.watch(self.grader, POSITION, one)
        return answers

    async def repeated(
        self, inquiry_of: Callable[[int], Inquiry[T]], samples: int, spent: Spent, judged: Callable[[T], Hashable] = same
    ) -> list[T]:
        """Those answers that could be read; `NoVerdict` where none could. `inquiry_of` makes the question of a sample; answers
        agree where what is `judged` is equal."""
        asked = await all_of(*(self._answer(inquiry_of(sample), spent) for sample in range(samples)))
        answers = [one[0] for one in asked if isinstance(one, tuple)]
        if not answers:
            raise NoVerdict(next(why for why in asked if isinstance(why, str)))
        if len(answers) > 1:
            self.watch(self.grader, SAMPLES, agreement(same=len(set(map(judged, answers))) == 1))
        return answers

    async def _answer(self, inquiry: Inquiry[T], spent: Spent) -> tuple[T] | str:
        """The answer alone in a tuple, or why there is none: one that cannot be read takes no other with it."""
        try:
            return (await answer_to(inquiry, self.ask, spent, self.secret),)
        except NoVerdict as error:
            return str(error)
