"""How often graders that compare a prompt's rollouts ask, and how many of these each question shows."""

from __future__ import annotations

import json
from typing import Any

from preceptor.planning.ranges import Range, exactly
from preceptor.recipes import Grading


def questions_of_group(grading: Grading, rollouts: int) -> tuple[Range, Range]:
    """Questions about one prompt, and responses in each. Equal responses are no question, so the fewest is none."""
    told: dict[str, Any] = json.loads(grading.parameters_json)
    samples = int(told.get("samples", 1))
    if grading.grader == "pairwise":
        return Range(0, 2 * samples * pair_count(rollouts, int(told.get("ring", 0)))), exactly(2)
    return Range(0, 2 * samples), Range(2, rollouts)


def pair_count(texts: int, ring: int) -> int:
    """Every two of them, or each with so many that come next, in a ring."""
    every = texts * (texts - 1) // 2
    return min(every, texts * ring) if ring else every
