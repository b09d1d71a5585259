"""What a recipe may know of an op without running it: its parameters, what it reads, and where its gradient comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from preceptor.recipes.schedules import FROZEN


class Kind(StrEnum):
    """The slot of a term that an op fits into."""

    SIGNAL = "signal"
    OBJECTIVE = "objective"
    ADVANTAGE = "advantage"
    """Starts an advantage, or is added to it."""

    TRANSFORM = "transform"
    """Changes the advantage so far."""

    TOKEN_WEIGHT = "token_weight"  # noqa: S105  # a token of text
    SAMPLE_WEIGHT = "sample_weight"
    CONDITION = "condition"
    PAIRS = "pairs"


class Gradient(StrEnum):
    """Where an op's gradient comes from; the linter refuses terms whose expected gradient cannot depend on a teacher."""

    NONE = "none"
    """None: a signal is data, an advantage is a detached weight."""

    PATHWISE = "pathwise"
    """Through the student's probabilities of listed tokens, compared with the teacher's."""

    SCORE_FUNCTION = "score_function"
    """Through the log-probability of the token that the student drew, weighted by an advantage."""

    LIKELIHOOD = "likelihood"
    """Through the log-probability of a token that somebody else chose; the teacher speaks by having written it."""

    PREFERENCE = "preference"
    """Through the log-probabilities of two whole responses, one preferred to the other."""


REWARDS = frozenset({"reward", "environment"})
"""Signals that are one number for each whole rollout."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a signal asks of the teacher for every row, and of the student while it draws."""

    sampled: bool = False
    topk: int = 0
    student_topk: int = 0  # ids that the response log carries beside each token
    tail: bool = False
    entropy: bool = False
    hidden: bool = False
    grader: str = ""
    grader_parameters: tuple[tuple[str, Any], ...] = ()
    criteria: tuple[tuple[str, float, str], ...] = ()  # text, weight, name
    steps: bool = False  # the verdict's rewards of steps, and not its own alone


class Params(BaseModel):
    """Parameters of an op: frozen, unknown names refused, every default here and nowhere else."""

    model_config = FROZEN


class NoParams(Params):
    """An op without parameters."""


def no_needs(_params: Any) -> Needs:
    """What objectives and advantages ask beyond their signal: nothing."""
    return Needs()


def never_idle(_params: Any) -> str:
    """An op that no choice of parameters switches off."""
    return ""


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One op. `reads` names the signals that it can work with, any one of them; where that depends on the parameters, `reads_of`
    does. `idle` says, in half a sentence, why these parameters leave the op without effect; "" where they do not."""

    name: str
    kind: Kind
    summary: str
    params: type[Params] = NoParams
    gradient: Gradient = Gradient.NONE
    reads: frozenset[str] = frozenset()
    takes_advantage: bool = False
    needs: Callable[[Any], Needs] = no_needs
    reads_of: Callable[[Any], frozenset[str]] | None = None
    idle: Callable[[Any], str] = never_idle

    def signals(self, params: Params) -> frozenset[str]:
        """The signals that it can work with under these parameters; none: it reads no teacher."""
        return self.reads if self.reads_of is None else self.reads_of(params)
