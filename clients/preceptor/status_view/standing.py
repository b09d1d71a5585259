"""Figures of one or more replicas put together, and what happened between two looks. Pure: a snapshot in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from preceptor.types import BudgetStatus, FlowStatus, QueueStatus, TeacherStatus

Name = tuple[str, str, str]
"""(teacher, tenant, job)"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every replica by its address, at one moment."""

    at_s: float
    replicas: Mapping[str, TeacherStatus]


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One teacher on one replica."""

    address: str
    teacher: str
    up: bool
    restarts: int
    waiting: int
    running: int
    computed_tokens: int
    reused_share: float | None
    cache_share: float | None
    tokens_per_s: float | None  # between two looks


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job at one teacher, over all bands and replicas."""

    teacher: str
    tenant: str
    job: str
    bands: tuple[int, ...]
    weight: float
    queued: int
    oldest_wait_s: float
    eta_s: float | None
    served_tokens: int
    served_per_s: float | None  # between two looks
    leased: int
    unread_bytes: int
    dead_letters: int


def budget_rows(now: Snapshot) -> Iterator[tuple[str, BudgetStatus]]:
    """Address and account, by address. Replicas may share a ledger, so nothing is added up."""
    for address, status in sorted(now.replicas.items()):
        for one in status.budgets:
            yield address, one


def engine_rows(now: Snapshot, before: Snapshot | None = None) -> Iterator[EngineRow]:
    """By address, then by teacher."""
    earlier = {} if before is None else {(a, e.teacher): e for a, one in before.replicas.items() for e in one.engines}
    for address, status in sorted(now.replicas.items()):
        for engine in status.engines:
            then = earlier.get((address, engine.teacher))
            yield EngineRow(
                address,
                engine.teacher,
                engine.up,
                engine.restarts,
                engine.waiting_tasks,
                engine.running_tasks,
                engine.tokens_computed,
                _share(engine.tokens_reused, engine.tokens_computed),
                _share(engine.cache_hits, engine.cache_misses),
                _rate(engine.tokens_computed, then and then.tokens_computed, now, before),
            )


def job_rows(now: Snapshot, before: Snapshot | None = None) -> list[JobRow]:
    """Jobs that have or had work, the longest queue first."""
    flows, queues = _flows(now), _queues(now)
    earlier = _flows(before) if before else {}
    rows = [_job_row(name, flows.get(name, ()), queues.get(name), earlier.get(name), now, before) for name in flows | queues]
    return sorted(rows, key=lambda row: (-row.queued, row.teacher, row.tenant, row.job))


def fairness(now: Snapshot, before: Snapshot) -> float | None:
    """Jain's index over tokens served / weight of the jobs that had work waiting at both looks; None below two of them."""
    waited = {row.job: row for row in job_rows(before) if row.queued}
    both = [row for row in job_rows(now, before) if row.queued and row.job in waited and row.weight]
    shares = [(row.served_per_s or 0.0) / row.weight for row in both]
    total = sum(shares)
    return None if len(shares) < 2 or total == 0 else total**2 / (len(shares) * sum(share**2 for share in shares))


def _job_row(
    name: Name,
    flows: Sequence[FlowStatus],
    queue: QueueStatus | None,
    earlier: Sequence[FlowStatus] | None,
    now: Snapshot,
    before: Snapshot | None,
) -> JobRow:
    served = sum(flow.served_tokens for flow in flows)
    then = sum(flow.served_tokens for flow in earlier) if earlier else None
    etas = [flow.eta_s for flow in flows if flow.eta_s is not None]
    here = sum(flow.queued_tasks for flow in flows)
    return JobRow(
        *name,
        bands=tuple(sorted({flow.band for flow in flows})),
        weight=max((flow.weight for flow in flows), default=0.0),
        queued=max(here, queue.ready_tasks if queue else 0),  # a worker that knows of ready tasks counts them, too
        oldest_wait_s=max((flow.oldest_wait_s for flow in flows), default=0.0),
        eta_s=max(etas, default=None),
        served_tokens=served,
        served_per_s=_rate(served, then, now, before),
        leased=queue.leased_tasks if queue else 0,
        unread_bytes=queue.unread_bytes if queue else 0,
        dead_letters=queue.dead_letters if queue else 0,
    )


def _flows(snapshot: Snapshot) -> dict[Name, list[FlowStatus]]:
    found: dict[Name, list[FlowStatus]] = {}
    for flow in _each(status.flows for status in snapshot.replicas.values()):
        found.setdefault((flow.teacher, flow.tenant, flow.job), []).append(flow)
    return found


def _queues(snapshot: Snapshot) -> dict[Name, QueueStatus]:
    """Replicas look at one server, so any of them will do."""
    listed = [queue for status in snapshot.replicas.values() for queue in status.queues]
    return {(queue.teacher, queue.tenant, queue.job): queue for queue in listed}


def _each(parts: Iterable[Sequence[FlowStatus]]) -> Iterator[FlowStatus]:
    for part in parts:
        yield from part


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def _rate(value: int, then: int | None, now: Snapshot, before: Snapshot | None) -> float | None:
    """A count that went back belongs to a process that started anew."""
    if before is None or then is None or value < then or now.at_s <= before.at_s:
        return None
    return (value - then) / (now.at_s - before.at_s)
