"""What the sequences of one call have in common: prefixes that are read once for all who start with them.

The rollouts of one prompt often arrive together, before any of them has left a state that the others could find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from preceptor.types import Ids
from preceptor_teacher.engines.hf.states import shared_prefix

WORTH_TOKENS = 32  # a pass over a prefix of its own has to save at least this many


@dataclass(frozen=True, slots=True)
class Trunk:
    """`members` (indices) start with the same `tokens` tokens, and know less; `knows_most` is who knows most of these."""

    tokens: int
    members: tuple[int, ...]
    knows_most: int


def find_trunks(prefixes: Sequence[Ids], known: Sequence[int]) -> list[Trunk]:
    """The outermost shared prefixes worth a pass, disjoint; `known` says how much of each is known already.

    Once they are known, asking again finds the next ones inside them, until there are none.
    """
    order = sorted(range(len(prefixes)), key=lambda i: prefixes[i].astype(">u4").tobytes())
    return list(_trunks(order, prefixes, known))


def _trunks(order: Sequence[int], prefixes: Sequence[Ids], known: Sequence[int]) -> Iterator[Trunk]:
    """Of sequences in lexical order, so that the first and the last of them share what all share."""
    if len(order) < 2:
        return
    shared = shared_prefix(prefixes[order[0]], prefixes[order[-1]])
    knows_most = max(order, key=lambda i: min(known[i], shared))
    members = tuple(i for i in order if known[i] < shared)
    saved = sum(shared - known[i] for i in members) - max(0, shared - known[knows_most])
    if saved >= WORTH_TOKENS:
        yield Trunk(shared, members, knows_most)
        return
    longer = [i for i in order if len(prefixes[i]) > shared]
    for _, branch in groupby(longer, key=lambda i: int(prefixes[i][shared])):
        yield from _trunks(list(branch), prefixes, known)
