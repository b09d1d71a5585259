"""Pairs across two sources on one prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from preceptor.recipes.ops.source_pairs import SourcePairsParams
from preceptor_student.objectives.samples import Pair, Sample


def pairs(samples: Sequence[Sample], params: SourcePairsParams) -> list[Pair]:
    """The first sample of the chosen source meets the first of the rejected one, and so on; who is left over has no pair."""
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for place, one in enumerate(samples):
        sides[one.prompt][one.source == params.rejected].append(place)
    return [pair for chosen, rejected in sides.values() for pair in zip(chosen, rejected, strict=False)]
