"""`exact`: whether the response is, or ends with, the right answer. No model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from preceptor.recipes import is_match
from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.protocol import CHECK, Grader, GraderSpec, Means
from preceptor_teacher.graders.references import reference_of


class ExactParams(BaseModel):
    """What counts as the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Literal["last_word", "exact"] = "last_word"
    """last_word: the last word of the response; exact: the whole response, spaces around it aside."""


@dataclass(frozen=True, slots=True)
class Exact:
    """1 for the right answer, 0 for any other."""

    params: ExactParams

    async def grade(self, item: GradeItem) -> Verdict:
        right = is_match(item.response, reference_of(item, SPEC.name), self.params.match)
        return Verdict(Validity.OK, float(right))


def _build(params: ExactParams, means: Means) -> Grader:
    return Exact(params)


SPEC = GraderSpec("exact", "1 where the response ends with the reference, else 0", ExactParams, _build, CHECK)
