"""What a grader reads, and what it says of it."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.codec import Validity
from preceptor.types.scores import Receipt


@dataclass(frozen=True, slots=True)
class GradeItem:
    """One response to judge, as text. Items of one group answer the same prompt."""

    prompt: str
    response: str
    reference: str = ""
    group: str = ""
    unsure_at: tuple[int, ...] = ()  # UTF-8 bytes of the response before places where its writer was unsure, the worst first


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that a good response does, and how much it counts beside the others."""

    text: str
    weight: float = 1.0
    name: str = ""  # what verdicts call it; empty: c1, c2, ... by its place


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    """What a grader says of one criterion. `score` is None unless `validity` is OK."""

    name: str
    validity: Validity
    score: float | None
    reason: str = ""
    text: str = ""  # the criterion itself, where a rubric has it
    weight: float = 0.0  # how much it counts beside the others; 0: nothing is weighed

    @property
    def criterion(self) -> Criterion:
        """What it is about, as a request may send it."""
        return Criterion(self.text, self.weight, self.name)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A grader's judgement of one response, and what it cost. `reward` is None unless `validity` is OK."""

    validity: Validity
    reward: float | None
    reason: str = ""  # why there is no reward
    critique: str = ""
    calls: int = 0  # requests that reached the provider, repeats included
    prompt_tokens: int = 0  # as the provider counted them
    completion_tokens: int = 0
    receipt: Receipt | None = None
    criteria: tuple[CriterionVerdict, ...] = ()
    step_rewards: tuple[float, ...] = ()  # one for each step that the grader tells apart, NaN: none; float32 on the wire
    step_ends: tuple[int, ...] = ()  # of each step: UTF-8 bytes of the response up to its end; ascending, the last one all of it
    cost_usd: float | None = None  # None: the operator gave no prices
    agreement: float | None = None  # of repeated judgements: the share of their pairs that say the same; None: there was one

    @property
    def tokens(self) -> int:
        """Read and written by the provider."""
        return self.prompt_tokens + self.completion_tokens
