"""The same question several times over, each for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from preceptor_teacher.graders.asking import Inquiry, Spent, answer_to
from preceptor_teacher.graders.groups import all_of
from preceptor_teacher.graders.protocol import Ask, Means
from preceptor_teacher.graders.verdicts import NoVerdict
from preceptor_teacher.graders.watching import POSITION, SAMPLES, Watch, agreement, unwatched


@dataclass(frozen=True, slots=True)
class Panel:
    """A judge that is asked more than once for what names one of several responses."""

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
        """Those that could be read; `NoVerdict` where none could. `inquiry_of` makes the question of a sample."""
        asked = await all_of(*(self._answer(inquiry_of(sample), spent) for sample in range(samples)))
        answers = [one for one in asked if isinstance(one, str)]
        if not answers:
            raise next(one for one in asked if isinstance(one, NoVerdict))
        for one in answers:
            self.watch(self.grader, POSITION, one)
        if len(answers) > 1:
            self.watch(self.grader, SAMPLES, agreement(same=len(set(answers)) == 1))
        return answers

    async def _answer(self, inquiry: Inquiry[str], spent: Spent) -> str | NoVerdict:
        try:
            return await answer_to(inquiry, self.ask, spent, self.secret)
        except NoVerdict as error:
            return error
