"""Rollouts: what the student generated, token by token, and under which weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.codec import WireEnum
from preceptor.types.models import ModelRef
from preceptor.types.sequences import RaggedIds, Sequence


class FinishReason(WireEnum):
    """Why a rollout ended; the numbers are the protocol's."""

    EOS = 1
    LENGTH = 2
    STOP = 3
    CANCELLED = 4
    ENVIRONMENT = 5


class Provenance(WireEnum):
    """Who chose a token; the numbers are the protocol's."""

    STUDENT = 0
    TEACHER = 1
    MIXED = 2
    ACCEPTED = 3
    REPLACED = 4


@dataclass(frozen=True, slots=True)
class RolloutId:
    """(run, step, prompt, sample, attempt): names one attempt at one rollout."""

    run: str
    step: int
    prompt: int
    sample: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Columns over response tokens. A log-probability column that is None is MISSING; NaN marks one missing token."""

    versions: NDArray[np.uint32] | None = None
    provenance: NDArray[np.uint8] | None = None
    logprob_policy: NDArray[np.float32] | None = None
    logprob_behaviour: NDArray[np.float32] | None = None
    kv_mixed: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One finished attempt."""

    id: RolloutId
    sequence: Sequence
    behaviour: Behaviour
    finish_reason: FinishReason
    model: ModelRef
    student_topk: RaggedIds | None = None
    text: str = ""
    reward: float | None = None  # what the environment gave
