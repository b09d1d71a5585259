"""`ObjectiveSpec`: what the student minimises, as JSON that carries every parameter, defaults included.

It is written by `compile_recipe` and executed by the student service. Parameters are complete in it, so that a run resumes
under the numbers it was started with whatever the defaults of a later version are.
"""

from __future__ import annotations

from pydantic import BaseModel

from preceptor.errors import InvalidArgument
from preceptor.recipes.load import validate
from preceptor.recipes.schedules import FROZEN, Number
from preceptor.recipes.schema import Normaliser, OpUse, Use
from preceptor.recipes.strict_yaml import parse_yaml

SCHEMA = 1


class TermSpec(BaseModel):
    """One part of the loss: weight * sum over counted rows of weights * objective / count of the normaliser, over the whole step.

    Every op that reads a signal names its teacher and the signal here, whatever the recipe left unsaid.
    """

    model_config = FROZEN

    name: str
    on: str
    teacher: str | None
    signal: OpUse | None
    objective: OpUse
    token_weights: tuple[Use, ...]
    sample_weights: tuple[Use, ...]
    advantage: tuple[Use, ...]
    when: tuple[Use, ...]
    pairs: Use | None
    weight: Number
    normaliser: Normaliser


class ObjectiveSpec(BaseModel):
    """The loss of one step: the sum of its terms."""

    model_config = FROZEN

    temperature: float
    terms: tuple[TermSpec, ...]

    def to_json(self) -> str:
        """One line; equal specs give equal text."""
        return self.model_dump_json()


def objective_from_json(schema: int, text: str) -> ObjectiveSpec:
    """The spec of a step's header, or `InvalidArgument` naming what is wrong."""
    if schema != SCHEMA:
        raise InvalidArgument(
            f"objective.schema {schema} is unknown here", field="objective.schema", value=schema, limit=str(SCHEMA),
            hint="update the older of the learner and the student service",
        )  # fmt: skip
    return validate(ObjectiveSpec, parse_yaml(text, "objective.json"), "objective.json")
