"""`learn --estimate`: what a run takes, as lines of a table; what cannot be known says what would tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from preceptor.learner import RunPlan
from preceptor.planning.like import Observed
from preceptor.planning.prices import Price
from preceptor.planning.ranges import Range, exactly
from preceptor.planning.work import Graded, Work, work_of

HEADER = ("what", "at least", "at most", "why")
RETRIES = "attempts that fail at the provider, and are paid all the same, come on top"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `unit` is how it is shown: tokens, calls, usd or seconds; no amount: it is unknown."""

    what: str
    amount: Range | None
    unit: str
    why: str = ""

    @property
    def row(self) -> tuple[str, str, str, str]:
        """As a table has it."""
        if self.amount is None:
            return (self.what, "unknown", "unknown", self.why)
        return (self.what, _told(self.amount.low, self.unit), _told(self.amount.high, self.unit), self.why)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole run."""

    work: Work
    seconds: Range | None
    costs: Mapping[str, Range | None]  # by teacher behind an API

    @property
    def cost(self) -> Range | None:
        """Of all teachers together; None where one has no price."""
        total = exactly(0.0)
        for one in self.costs.values():
            if one is None:
                return None
            total += one
        return total

    def lines(self) -> Iterator[Line]:
        """In the order in which a person asks."""
        work = self.work
        yield Line("steps", exactly(work.steps), "steps")
        yield Line("rollouts", exactly(work.rollouts), "rollouts")
        yield Line("prompt tokens", work.prompt_tokens, "tokens", "each prompt once; by its bytes, tokenizers differ")
        yield Line("tokens drawn", work.drawn, "tokens", "from one token each to max_response_tokens, or by --like")
        if work.turns.high:
            yield Line("turns of rollouts", work.turns, "turns", "each reads the conversation so far again")
            yield Line("tokens that environments say", work.observed, "tokens", "read, never scored and never trained on")
        yield Line("rows scored", work.scored, "tokens", "by teachers with weights")
        yield Line("tokens trained on", work.trained, "tokens", "prompts and what environments say included")
        yield Line("tokens drawn in evaluations", work.evaluated, "tokens")
        for one in work.graded:
            yield from self._of(one)
        if work.graded:
            yield Line("cost of all teachers", self.cost, "usd", "" if self.cost else "a teacher has no price")
        why = "without evaluations, by --like" if self.seconds else "name an earlier run with --like"
        yield Line("time", self.seconds, "seconds", why)

    def _of(self, one: Graded) -> Iterator[Line]:
        cost, asking = self.costs[one.teacher], one.asking
        why = "; ".join(text for text in (asking.how, RETRIES) if text)
        yield Line(f"calls of {one.model}", asking.calls, "calls", why)
        yield Line(f"tokens that {one.model} reads", asking.prompt_tokens, "tokens")
        yield Line(f"tokens that {one.model} writes", asking.completion_tokens, "tokens")
        yield Line(f"cost of {one.model}", cost, "usd", "" if cost else "no price: name a table with --prices-file")


def estimate_run(plan: RunPlan, prices: Mapping[str, Price], like: Observed | None = None) -> Estimate:
    """Offline: nothing is asked of any service."""
    work = work_of(plan, like)
    costs = {
        one.teacher: prices[one.model].of(one.asking.prompt_tokens, one.asking.completion_tokens) if one.model in prices else None
        for one in work.graded
    }
    return Estimate(work, like.seconds(work.drawn) if like else None, costs)


def _told(value: float, unit: str) -> str:
    if unit == "usd":
        return f"${value:,.4f}" if value < 1 else f"${value:,.2f}"
    if unit == "seconds":
        return f"{value:,.0f} s"
    return f"{value:,.0f}"
