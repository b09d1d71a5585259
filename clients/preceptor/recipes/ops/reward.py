"""A grader's verdict on the whole rollout: one number a sequence, and no log-probability at all."""

from __future__ import annotations

from pydantic import Field

from preceptor.recipes.ops.spec import Kind, Needs, OpSpec, Params

Plain = str | int | float | bool
COMPARING = ("exact", "math_verify")
"""Graders that compare with the right answer by a rule: they need it, and ask and pay nobody."""

GROUPING = ("best_of_n", "contrast", "pairwise")
"""Graders that hold the rollouts of one prompt against each other: they need two, and are asked for the whole group."""


class RewardParams(Params):
    """Which grader judges, and what it is told."""

    grader: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)
    """Name of a grader that the teacher service offers."""

    parameters: dict[str, Plain] = Field(default_factory=dict[str, Plain])
    """The grader's own parameters; the teacher service checks them."""


def needs(params: RewardParams) -> Needs:
    return Needs(grader=params.grader, grader_parameters=tuple(sorted(params.parameters.items())))


SPEC = OpSpec("reward", Kind.SIGNAL, "a grader's verdict on each whole rollout", params=RewardParams, needs=needs)
