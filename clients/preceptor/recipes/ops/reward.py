"""A grader's verdict on the whole rollout: one number a sequence, and no log-probability at all."""

from __future__ import annotations

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import Kind, Needs, OpSpec, Params

Plain = str | int | float | bool
COMPARING = ("exact", "math_verify")
"""Graders that compare with the right answer by a rule: they need it, and ask and pay nobody."""

RUBRIC = "rubric"
GROUPING = ("best_of_n", "contrast", "discriminator", "pairwise")
"""Graders that hold the rollouts of one prompt against each other: they need two, and are asked for the whole group."""
WHOLE = (*COMPARING, RUBRIC, *GROUPING, "critique")
"""Graders that say nothing of the steps of a response; of one by an unknown name its teacher does at the handshake."""


class RubricCriterion(Params):
    """One thing that a good response does."""

    text: str = Field(min_length=1, max_length=500)
    """What it does, in words."""

    weight: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    """How much it counts beside the others."""

    name: str = Field(default="", max_length=128)
    """What verdicts call it; empty: c1, c2, ... by its place."""


class RewardParams(Params):
    """Which grader judges, and what it is told."""

    grader: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)
    """Name of a grader that the teacher service offers."""

    parameters: dict[str, Plain] = Field(default_factory=dict[str, Plain])
    """The grader's own parameters; the teacher service checks them."""

    criteria: tuple[RubricCriterion, ...] = Field(default=(), max_length=32)
    """Of grader rubric: what every response is held to; none: the judge makes a rubric for each prompt."""

    @model_validator(mode="after")
    def _has_a_rubric(self) -> RewardParams:
        if self.criteria and self.grader != RUBRIC:
            raise ValueError(f"criteria belong to grader {RUBRIC}")
        return self


def needs(params: RewardParams) -> Needs:
    criteria = tuple((one.text, one.weight, one.name) for one in params.criteria)
    return Needs(grader=params.grader, grader_parameters=tuple(sorted(params.parameters.items())), criteria=criteria)


SPEC = OpSpec("reward", Kind.SIGNAL, "a grader's verdict on each whole rollout", params=RewardParams, needs=needs)
