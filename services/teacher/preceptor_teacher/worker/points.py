"""Named places between two effects of a worker. Dying at any of them must cost time and nothing else."""

from __future__ import annotations

POINTS = (
    "lease taken",
    "log read",
    "quota reserved",
    "rows computed",
    "rows committed",
    "lease ended without rows",
    "lease renewed",
    "leases reclaimed",
)
"""Every point, in the order of a task; the last two belong to no task."""

GRADE_POINTS = ("lease taken", "verdicts read", "verdicts committed")
"""Those of a task of texts; the points of a call to the provider (`api.points`) lie between the first two."""
