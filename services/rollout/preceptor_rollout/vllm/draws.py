"""How the tokens of a sequence are to be drawn, and how that travels through vLLM to where its logits are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preceptor.types import RolloutId
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.sampling import SamplingRule

KEY = "preceptor"  # in SamplingParams.extra_args


@dataclass(frozen=True, slots=True)
class DrawRule:
    """What the sequences of a request have in common. Those that share it are drawn together."""

    sampling: SamplingRule
    student_topk: int
    seed: int
    step: int

    @classmethod
    def of(cls, request: rollout_pb2.GenerateRequest) -> DrawRule:
        return cls(SamplingRule.of(request.sampling), request.student_topk, request.seed, request.step)


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of one sequence: each is (seed; step, prompt, sample, position), whatever runs beside it."""

    rule: DrawRule
    prompt: int
    sample: int
    first_row: int  # position of the first one: response tokens of the turns before stand in the context

    @classmethod
    def of(cls, rule: DrawRule, rollout: RolloutId, first_row: int) -> Draws:
        return cls(rule, rollout.prompt, rollout.sample, first_row)

    def extra_args(self) -> dict[str, Any]:
        """Plain numbers, which every serialisation keeps."""
        rule, bent = self.rule, self.rule.sampling
        numbers = [bent.temperature, bent.top_p, bent.top_k, rule.student_topk, rule.seed, rule.step]
        return {KEY: [*numbers, self.prompt, self.sample, self.first_row]}


def draws_of(params: Any) -> Draws:
    """The draws in a request's `SamplingParams`."""
    extra: Mapping[str, Any] = params.extra_args
    temperature, top_p, top_k, student_topk, seed, step, prompt, sample, first_row = extra[KEY]
    return Draws(DrawRule(SamplingRule(temperature, top_p, top_k), student_topk, seed, step), prompt, sample, first_row)
