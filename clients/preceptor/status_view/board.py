"""The board of `preceptor status`: cells of plain text, which a terminal shows as tables and a pipe gets as lines."""

from __future__ import annotations

from collections.abc import Iterator

from preceptor.status_view.fitting import Table, fitted
from preceptor.status_view.standing import EngineRow, JobRow, Snapshot, budget_rows, engine_rows, fairness, job_rows
from preceptor.types import BudgetStatus

ENGINES = ("teacher", "at", "engine", "waiting", "running", "tokens/s", "computed", "reused", "cache", "restarts")
JOBS = ("teacher", "tenant", "job", "band", "weight", "queued", "waits", "ETA", "tokens/s", "served", "leased", "unread", "dead")
BUDGETS = ("teacher", "at", "tenant", "job", "calls", "spent $", "under way $", "maybe paid $", "limit $", "left $")
NUMBERS = frozenset({*ENGINES, *JOBS, *BUDGETS} - {"teacher", "at", "engine", "tenant", "job", "band"})
ENGINE_NAMES, ENGINE_ORDER = ("teacher",), ("computed", "restarts", "cache", "reused")
JOB_NAMES, JOB_ORDER = ("teacher", "tenant"), ("served", "leased", "band", "weight", "waits", "unread", "tokens/s")
BUDGET_NAMES, BUDGET_ORDER = ("teacher", "tenant"), ("maybe paid $", "under way $", "calls", "left $")
NOTHING, ALL = "-", "all"
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


def budget_table(now: Snapshot, width: int) -> Table:
    """What was spent at teachers behind an API, in so many columns of a screen."""
    return fitted(Table(BUDGETS, tuple(budget_cells(now))), width, BUDGET_NAMES, BUDGET_ORDER)


def budget_cells(now: Snapshot) -> list[tuple[str, ...]]:
    return [_budget(*row) for row in budget_rows(now)]


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


def _budget(address: str, row: BudgetStatus) -> tuple[str, ...]:
    """What is left is less all that may have been spent."""
    taken_usd = row.spent_usd + row.reserved_usd + row.lost_usd
    left_usd = None if row.limit_usd is None else max(0.0, row.limit_usd - taken_usd)
    return (
        row.teacher,
        address,
        row.tenant or ALL,
        row.job or (NOTHING if row.tenant else ALL),
        str(row.calls),
        *(dollars(usd) for usd in (row.spent_usd, row.reserved_usd, row.lost_usd, row.limit_usd, left_usd)),
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


def dollars(usd: float | None) -> str:
    return NOTHING if usd is None else f"{usd:.4f}"


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
