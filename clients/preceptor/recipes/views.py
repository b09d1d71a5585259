"""What a teacher reads instead of the student's prompt: a text with places for fields of the data.

    view: "{prompt}\\nA worked solution: {solution}\\nSolve the problem again."

A place is a field's name in braces and nothing else; `{{` and `}}` stand for braces. Where the teacher has `feedback`, two places
are filled from finished rollouts instead: `{sibling}` and `{critique}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from pydantic import BaseModel, Field

from preceptor.recipes.schedules import FROZEN

SIBLING, CRITIQUE = "sibling", "critique"
FEEDBACK_PLACES = (SIBLING, CRITIQUE)


class Feedback(BaseModel):
    """What a view shows of finished rollouts. A rollout that has neither is not scored by this teacher.

    `{sibling}`: the response of the first other rollout of its group that passed. `{critique}`: what the judge said of itself.
    Nothing stands where one of them is not there.
    """

    model_config = FROZEN

    judge: str
    """A name under `teachers`: whose verdicts these are."""

    passed_at: float = Field(default=1.0, allow_inf_nan=False)
    """A rollout has passed when its reward is at least this."""


def fields_of(view: str) -> list[str]:
    """The names in a view's places, in its order; ValueError where a place holds anything else."""
    names: list[str] = []
    for _, name, spec, conversion in Formatter().parse(view):
        if name is None:
            continue
        if spec or conversion or not name.isidentifier():
            raise ValueError(f"a place holds the name of a field and nothing else, not {{{name}}}")
        names.append(name)
    return names


def check_view(view: str) -> str:
    """The view itself, once its places were found to be names."""
    fields_of(view)
    return view


def filled_in_part(view: str, values: Mapping[str, str]) -> str:
    """The view of one line of the data, still a view: places without a value stay, and braces of texts are no places."""
    parts: list[str] = []
    for text, name, _, _ in Formatter().parse(view):
        parts.append(_escaped(text))
        if name is not None:
            parts.append(_escaped(values[name]) if name in values else f"{{{name}}}")
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
