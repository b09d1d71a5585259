"""The table of a comparison: one row for each recipe and each control."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.compare.outcomes import Outcome
from preceptor.compare.statistics import estimate, paired_difference

HEADER = (
    "recipe",
    "seeds",
    "before, %",
    "after, %",
    "gain, points",
    "against the first, points",
    "reverse KL",
    "tokens drawn",
    "s",
)


def rows_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """In the order in which groups appear. Accuracies are of greedy answers to held-out prompts; ± is one standard error."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.entry.group, []).append(one)
    first = _after(next(iter(groups.values()))) if groups else {}
    return [_row(name, found, first) for name, found in groups.items()]


def _row(name: str, outcomes: Sequence[Outcome], first: dict[int, float]) -> tuple[str, ...]:
    good = [one for one in outcomes if not one.failure]
    failed = [one.failure for one in outcomes if one.failure]
    if not good:
        return (name, "0", f"failed: {failed[0]}", *("" for _ in HEADER[3:]))
    after = _after(good)
    difference = paired_difference(after, first) if after is not first and after != first else None
    divergences = [one.reverse_kl for one in good if one.reverse_kl is not None]
    notes = [f"{len(failed)} failed"] if failed else []
    notes += [f"{sum(bool(one.ended) for one in good)} ended early"] if any(one.ended for one in good) else []
    return (
        name,
        ", ".join((str(len(good)), *notes)),
        estimate([one.before for one in good]).told(100),
        estimate(list(after.values())).told(100),
        estimate([one.after - one.before for one in good]).told(100, sign=True),
        difference.told(100, sign=True) if difference else "",
        f"{estimate(divergences).mean:.3f}" if divergences else "",
        f"{estimate([one.tokens for one in good]).mean:,.0f}",
        f"{estimate([one.seconds for one in good]).mean:.0f}",
    )


def _after(outcomes: Sequence[Outcome]) -> dict[int, float]:
    return {one.entry.seed: one.after for one in outcomes if not one.failure}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as the pages of docs/ have it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
