"""A softmax over the group's mean log-probabilities: more weight on responses that a model finds likely, or unlikely."""

from typing import Literal

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Positive


class PerplexityParams(Params):
    """Whose surprise, and which end is preferred. Weights have mean one over the rollouts of a group that the term reads."""

    of: Literal["student", "teacher"]
    """student: as the rollout logged it when it drew; teacher: the `sampled` signal."""

    prefer: Literal["likely", "unlikely"]
    """Which responses weigh more."""

    sharpness: Positive = 1.0
    """Weight is in proportion to exp(+- sharpness * mean log-probability of the response)."""


def reads(params: PerplexityParams) -> frozenset[str]:
    return frozenset({"sampled"} if params.of == "teacher" else ())


SPEC = OpSpec(
    "perplexity",
    Kind.SAMPLE_WEIGHT,
    "a softmax within the group over mean log-probabilities of responses",
    params=PerplexityParams,
    reads_of=reads,
)
