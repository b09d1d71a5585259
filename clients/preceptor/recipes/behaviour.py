"""`BehaviourSpec`: how the tokens of a rollout come about, as the JSON that a `GenerateRequest` carries in `policy_json`.

It is complete, as an objective is: every parameter is in it, ramps included, and the rollout service evaluates them at the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from preceptor.errors import ConfigurationError, InvalidArgument
from preceptor.recipes.load import validate
from preceptor.recipes.ops.spec import Params
from preceptor.recipes.policies import POLICIES, PolicySpec
from preceptor.recipes.schedules import FROZEN
from preceptor.recipes.schema import OpUse
from preceptor.recipes.strict_yaml import parse_yaml
from preceptor.suggest import did_you_mean

FIELD = "policy_json"
GUIDED_ENGINES = ("hf",)
"""Engines of the rollout service that can wait for a teacher while they draw."""


class BehaviourSpec(BaseModel):
    """A policy, its parameters, and the name under which the teacher service knows the teacher in its loop."""

    model_config = FROZEN

    policy: OpUse
    teacher: str = ""

    def to_json(self) -> str:
        """One line; equal specs give equal text."""
        return self.model_dump_json()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A checked spec: parameters filled in."""

    spec: PolicySpec
    params: Params
    teacher: str


def resolve_policy(use: OpUse, where: str) -> tuple[PolicySpec, Params]:
    """The policy of that name and its parameters, or `ConfigurationError` naming the field."""
    spec = POLICIES.get(use.op)
    if spec is None:
        hint = did_you_mean(use.op, POLICIES)
        raise ConfigurationError(f"{where}: there is no policy {use.op!r}", field=where, value=use.op, hint=hint)
    return spec, validate(spec.params, use.params, f"{where}.params")


def behaviour_from_json(text: str) -> Behaviour:
    """What a request asks for, or `InvalidArgument` naming what is wrong with it."""
    try:
        read = validate(BehaviourSpec, parse_yaml(text, FIELD), FIELD)
        spec, params = resolve_policy(read.policy, f"{FIELD}.policy")
    except ConfigurationError as error:
        raise InvalidArgument(
            error.message, field=error.field or FIELD, value=error.value, limit=error.limit, hint=error.hint
        ) from error
    if spec.asks_teacher != bool(read.teacher):
        said, limit = ("needs the name of a teacher", "a name") if spec.asks_teacher else ("asks no teacher", "''")
        raise InvalidArgument(f"policy {spec.name} {said}", field=f"{FIELD}.teacher", value=read.teacher, limit=limit)
    return Behaviour(spec, params, read.teacher)
