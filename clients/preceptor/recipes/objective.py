"""`ObjectiveSpec`: what the student minimises, as JSON that carries every parameter, defaults included.

It is written by `compile_recipe` and executed by the student service. Parameters are complete in it, so that a run resumes
under the numbers it was started with whatever the defaults of a later version are.
"""

from __future__ import annotations

from pydantic import BaseModel

from preceptor.errors import ConfigurationError, InvalidArgument
from preceptor.recipes.lint import lint_terms
from preceptor.recipes.load import validate
from preceptor.recipes.resolve import ResolvedTerm, resolve_term
from preceptor.recipes.schedules import FROZEN, Number
from preceptor.recipes.schema import Normaliser, OpUse, Term, Use
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
    spec = validate(ObjectiveSpec, parse_yaml(text, "objective.json"), "objective.json")
    for finding in lint_terms([_resolved(term, index) for index, term in enumerate(spec.terms)]):
        raise InvalidArgument(
            f"{finding.sentence} [{finding.code}]", field=f"objective.json.{finding.field}", hint=finding.advice
        )
    return spec


def _resolved(term: TermSpec, index: int) -> ResolvedTerm:
    """The term as the linter looks at it. Specs come from anywhere, and its promises are what the maths counts on."""
    slots = {name: getattr(term, name) for name in Term.model_fields}
    try:
        return resolve_term(Term.model_construct(**slots), index)
    except ConfigurationError as error:
        raise InvalidArgument(
            error.message, field=f"objective.json.{error.field}", value=error.value, limit=error.limit, hint=error.hint
        ) from error
