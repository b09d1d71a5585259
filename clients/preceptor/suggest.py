"""`did_you_mean`: the known names nearest to a mistyped one, as a sentence for a hint."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean 'a' or 'b'?" for close names, else the known names; ready to be an error's hint."""
    import difflib  # only needed once something is wrong

    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(one) for one in close) + "?"
    return "known: " + ", ".join(names)
