"""How a teacher service stands: its engines, its queue, what lies at the durable door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from preceptor.codec import WireEnum
from preceptor.types.models import ModelInfo


class ServiceState(WireEnum):
    """Where a service is in its life."""

    LOADING = 1
    READY = 2
    DEGRADED = 3  # something named is wrong
    DRAINING = 4


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """What one job has in one band at one teacher, as this process sees it."""

    teacher: str
    tenant: str
    job: str
    band: int
    weight: float
    queued_tasks: int  # ready ones that it knows of at the durable door included
    queued_cost: float  # new tokens + row cost x rows
    virtual_time: float
    oldest_wait_s: float  # of what is queued in this process
    served_tokens: int  # charged since this process started
    eta_s: float | None = None  # until all that is queued now is served; None before anything was timed


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What one job has at the durable door, over all bands and workers."""

    teacher: str
    tenant: str
    job: str
    ready_tasks: int
    suspect_tasks: int
    leased_tasks: int
    unread_results: int
    unread_bytes: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One teacher's engine in this process, since its start."""

    teacher: str
    up: bool
    restarts: int
    waiting_tasks: int
    running_tasks: int
    tokens_computed: int
    tokens_reused: int
    cache_hits: int
    cache_misses: int
    cost_per_s: float | None = None  # over about the last minute of busy time


class TeacherState(WireEnum):
    """Where one teacher of a service is in its life."""

    STARTING = 1  # to be loaded, or its engine's process is being started again
    SERVING = 2
    DRAINING = 3  # finishes what it has, takes nothing new
    DEAD = 4  # its engine's process has ended, or its provider does not answer


@dataclass(frozen=True, slots=True)
class TeacherStanding:
    """One teacher of a service, judges and those that are still to be loaded included."""

    teacher: str
    state: TeacherState
    heard_s: float | None = None  # since its engine's process last answered; None without one, or before its first answer


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What one job has spent at a teacher behind an API, of what it may; without tenant and job: all of them together."""

    teacher: str
    tenant: str
    job: str
    calls: int  # that have ended
    spent_usd: float
    reserved_usd: float  # the most that calls under way can cost
    lost_usd: float  # the most that calls can have cost of which nobody knows whether they were paid
    limit_usd: float | None = None  # None: no budget


@dataclass(frozen=True, slots=True)
class TeacherStatus:
    """All of one teacher service."""

    state: ServiceState
    worker: str  # this process's name at the durable door
    teachers: tuple[ModelInfo, ...] = ()
    engines: tuple[EngineStatus, ...] = ()
    flows: tuple[FlowStatus, ...] = ()
    queues: tuple[QueueStatus, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])  # what is wrong, by part
    standings: tuple[TeacherStanding, ...] = ()
    budgets: tuple[BudgetStatus, ...] = ()
