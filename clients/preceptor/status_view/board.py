"""The board of `preceptor status`: cells of plain text, which a terminal shows as tables and a pipe gets as lines."""

from __future__ import annotations

from collections.abc import Iterator

from preceptor.status_view.fitting import Table, fitted
from preceptor.status_view.standing import EngineRow, JobRow, Snapshot, engine_rows, fairness, job_rows

ENGINES = ("teacher", "at", "engine", "waiting", "running", "tokens/s", "computed", "reused", "cache", "restarts")
JOBS = ("teacher", "tenant", "job", "band", "weight", "queued", "waits", "ETA", "tokens/s", "served", "leased", "unread", "dead")
NUMBERS = frozenset({*ENGINES, *JOBS} - {"teacher", "at", "engine", "tenant", "job", "band"})
ENGINE_NAMES, ENGINE_ORDER = ("teacher",), ("computed", "restarts", "cache", "reused")
JOB_NAMES, JOB_ORDER = ("teacher", "tenant"), ("served", "leased", "band", "weight", "waits", "unread", "tokens/s")
NOTHING = "-"
MINUTE_S, HOUR_S = 60.0, 3600.0


def headlines(now: Snapshot, before: Snapshot | None) -> Iterator[str]:
    """One line for each replica with what is wrong with it, and one about fairness where it can be told."""
    for address, status in sorted(now.replicas.items()):
        yield f"{address}  {status.state}  worker {status.worker}"
        for part, reason in sorted(status.reasons.items()):
            yield f"  {part}: {reason}"
    index = fairness(now, before) if before else None
    if index is not None:
        yield f"fairness {index:.3f} (Jain's index over tokens served / weight of the jobs that wait; 1 is even)"


def engine_table(now: Snapshot, before: Snapshot | None, width: int) -> Table:
    """Engines, in so many columns of a screen."""
    return fitted(Table(ENGINES, tuple(engine_cells(now, before))), width, ENGINE_NAMES, ENGINE_ORDER)


def job_table(now: Snapshot, before: Snapshot | None, width: int) -> Table:
    """Jobs, in so many columns of a screen."""
    return fitted(Table(JOBS, tuple(job_cells(now, before))), width, JOB_NAMES, JOB_ORDER)


def engine_cells(now: Snapshot, before: Snapshot | None) -> list[tuple[str, ...]]:
    return [_engine(row) for row in engine_rows(now, before)]


def job_cells(now: Snapshot, before: Snapshot | None) -> list[tuple[str, ...]]:
    return [_job(row) for row in job_rows(now, before)]


def _engine(row: EngineRow) -> tuple[str, ...]:
    return (
        row.teacher,
        row.address,
        "up" if row.up else "down",
        str(row.waiting),
        str(row.running),
        number(row.tokens_per_s),
        number(row.computed_tokens),
        percent(row.reused_share),
        percent(row.cache_share),
        str(row.restarts),
    )


def _job(row: JobRow) -> tuple[str, ...]:
    return (
        row.teacher,
        row.tenant,
        row.job,
        ",".join(map(str, row.bands)) or NOTHING,
        f"{row.weight:g}" if row.weight else NOTHING,
        str(row.queued),
        duration(row.oldest_wait_s) if row.queued else NOTHING,
        duration(row.eta_s) if row.queued else NOTHING,
        number(row.served_per_s),
        number(row.served_tokens),
        str(row.leased),
        size(row.unread_bytes),
        str(row.dead_letters),
    )


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.0%}"


def duration(seconds: float | None) -> str:
    """With the unit that a person would take."""
    if seconds is None:
        return NOTHING
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    return f"{seconds / MINUTE_S:.1f} min" if seconds < HOUR_S else f"{seconds / HOUR_S:.1f} h"


def size(payload_bytes: int) -> str:
    kib = payload_bytes / 1024
    if kib < 1024:
        return "0" if not payload_bytes else f"{kib:.1f} KiB"
    return f"{kib / 1024:.1f} MiB"
