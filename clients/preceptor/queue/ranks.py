"""The one number by which a ready set is sorted: suspect or not, then band, then deadline.

``score = (8 * suspect + band) * 2^44 + deadline in ms``: exact in a double, so one range of scores is one band's ordinary
tasks, another one its suspects, and inside a range the earliest deadline comes first.
"""

from __future__ import annotations

from preceptor.errors import InvalidArgument

BANDS = 8
SPAN = 1 << 44  # milliseconds until the year 2527


def ready_score(deadline_ms: int, band: int, *, suspect: bool) -> float:
    """Where a task stands among the ready ones of its flow."""
    return range_start(band, suspect=suspect) + min(max(deadline_ms, 0), SPAN - 1)


def range_start(band: int, *, suspect: bool) -> float:
    """The lowest score of a band's ordinary tasks, or of its suspects. The range is `SPAN` wide."""
    if not 0 <= band < BANDS:
        raise InvalidArgument("no such band", field="band", value=band, limit=f"0..{BANDS - 1}")
    return float((BANDS * suspect + band) * SPAN)
