"""Who pays, and what was paid. Money is a whole number of billionths of a dollar, so that sums are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from preceptor.planning import Price
from preceptor_teacher.api.messages import Question, Tokens

NANO = 1_000_000_000
TOKENS_A_MESSAGE = 16  # of a template around one message, at most


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose call it is. Replies are kept apart by tenant, costs by job."""

    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Budgets:
    """What one job, and all jobs together, may cost; None is without a bound."""

    job: int | None = None
    all: int | None = None

    @classmethod
    def of(cls, job_usd: float | None, all_usd: float | None) -> Budgets:
        return cls(*(None if usd is None else int(usd * NANO) for usd in (job_usd, all_usd)))


NOBODY = Payer("local", "")
"""Callers without a service around them."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls took."""

    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost_nano: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.cost_nano + other.cost_nano)


@dataclass(frozen=True, slots=True)
class Account:
    """How a job stands."""

    payer: Payer
    calls: int = 0
    spent_nano: int = 0
    reserved_nano: int = 0  # the most that calls under way can cost
    lost_nano: int = 0  # the most of calls of which nobody knows whether they were paid

    def __add__(self, other: Account) -> Account:
        """Both together, under the name of the first."""
        return Account(
            self.payer,
            self.calls + other.calls,
            self.spent_nano + other.spent_nano,
            self.reserved_nano + other.reserved_nano,
            self.lost_nano + other.lost_nano,
        )


def cost_nano(price: Price | None, tokens: Tokens) -> int:
    """What the provider takes for these tokens, at its discount for those that its prompt cache knew; rounded up."""
    if price is None:
        return 0
    fresh = max(0, tokens.prompt - tokens.cached - tokens.cache_written)
    usd_millionths = (
        fresh * price.prompt_usd_per_million
        + tokens.cached * price.cached_usd_per_million
        + tokens.cache_written * price.written_usd_per_million
        + tokens.completion * price.completion_usd_per_million
    )
    return math.ceil(usd_millionths * (NANO // 1_000_000))


def most_tokens(question: Question) -> Tokens:
    """Bounds of what one call can take: no token of text is shorter than a byte."""
    text = sum(len(message["content"].encode(errors="replace")) + TOKENS_A_MESSAGE for message in question.messages)
    return Tokens(text, question.max_tokens)


def most_nano(price: Price | None, question: Question) -> int:
    """What one call can cost at most; text that a provider writes into its prompt cache may cost more than text it reads."""
    if price is None:
        return 0
    tokens = most_tokens(question)
    written = Tokens(tokens.prompt, tokens.completion, cache_written=tokens.prompt)
    return max(cost_nano(price, tokens), cost_nano(price, written))
