"""How much two texts are alike, from 0 to 1, where nobody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import fsum, hypot, isqrt, sqrt

RUN_CHARS = 3


def shared_words(one: str, other: str) -> float:
    """Twice the words that both have in the same order, of the words of both: 1 for the same words, spaces aside."""
    ours, theirs = one.split(), other.split()
    total = len(ours) + len(theirs)
    return 2 * _longest_common(ours, theirs) / total if total else 1.0


def shared_runs(one: str, other: str) -> float:
    """The cosine of both as vectors of how often each run of three characters comes, spaces made alike: near 1 where two texts
    are spelled nearly alike, whatever the order of their parts."""
    ours, theirs = _runs(one), _runs(other)
    if not ours or not theirs:
        return float(ours == theirs)
    shared, sizes = sum(count * theirs[run] for run, count in ours.items()), _square(ours) * _square(theirs)
    return shared / (isqrt(sizes) if isqrt(sizes) ** 2 == sizes else sqrt(sizes))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors of one length, neither of them zero; those that point apart are not alike at all."""
    mine, theirs = _scaled(one), _scaled(other)
    product = fsum(a * b for a, b in zip(mine, theirs, strict=True))
    return min(1.0, max(0.0, product / (hypot(*mine) * hypot(*theirs))))


def _scaled(vector: Sequence[float]) -> list[float]:
    """The same direction, its largest part 1 or -1: products of such parts neither overflow nor vanish together."""
    largest = max(map(abs, vector))
    return [part / largest for part in vector]


def _runs(text: str) -> Counter[str]:
    """Of the text between two spaces, so that the beginning and end of every word count."""
    spaced = f" {' '.join(text.split())} "
    return Counter(spaced[at : at + RUN_CHARS] for at in range(len(spaced) - RUN_CHARS + 1)) if spaced.strip() else Counter()


def _square(counts: Counter[str]) -> int:
    return sum(count * count for count in counts.values())


def _longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = row
        row = [0]
        for place, other in enumerate(theirs):
            row.append(before[place] + 1 if word == other else max(row[place], before[place + 1]))
    return row[-1]
