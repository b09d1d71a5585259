"""How much two texts are alike, from 0 to 1, where nobody is asked."""

from __future__ import annotations

from collections.abc import Sequence


def shared_words(one: str, other: str) -> float:
    """Twice the words that both have in the same order, of the words of both: 1 for the same words, spaces aside."""
    ours, theirs = one.split(), other.split()
    total = len(ours) + len(theirs)
    return 2 * _longest_common(ours, theirs) / total if total else 1.0


def _longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = row
        row = [0]
        for place, other in enumerate(theirs):
            row.append(before[place] + 1 if word == other else max(row[place], before[place + 1]))
    return row[-1]
