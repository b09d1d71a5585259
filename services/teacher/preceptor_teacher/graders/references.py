"""The right answer that graders without a judge compare with."""

from __future__ import annotations

from preceptor.errors import InvalidArgument
from preceptor.types import GradeItem


def reference_of(item: GradeItem, grader: str) -> str:
    """The item's reference; without one there is nothing to compare with."""
    if not item.reference.strip():
        raise InvalidArgument(
            f"grader {grader} compares with a reference, and there is none",
            field="reference",
            value="an empty text",
            limit="a text",
            hint="a recipe names the answers of its data with data.answer_field",
        )
    return item.reference
