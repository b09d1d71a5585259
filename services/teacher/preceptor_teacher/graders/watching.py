"""What graders notice of their judge beside its verdicts: whether it agrees with itself, and what it prefers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

Watch = Callable[[str, str, str], None]
"""Is told of a grader, of what is noticed, and of how it came out."""

ORDERS, SAMPLES, POSITION = "orders", "samples", "position"
AGREED, DISAGREED, MISSING = "agreed", "disagreed", "missing"


def unwatched(grader: str, what: str, outcome: str) -> None:
    """Nobody counts."""


class Judgements:
    """A `Watch` that counts."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def __call__(self, grader: str, what: str, outcome: str) -> None:
        self.counts[grader, what, outcome] += 1


def agreement(*, same: bool) -> str:
    return AGREED if same else DISAGREED
