"""`GET /v1/usage`: what a tenant's jobs used, and what they may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel

from preceptor.limits import check_name
from preceptor.queue.quotas import Counter, Usage
from preceptor_serving.auth.identity import SEES_ALL, Identity, Scope
from preceptor_serving.auth.terms import Terms
from preceptor_serving.doors.rest_routes import ANY_KEY, CurrentCall, door_router, needs

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService


class Counts(BaseModel):
    """Counts of one job at one teacher, or their sums."""

    requests: int = 0
    refusals: int = 0
    rows: int = 0
    computed_tokens: int = 0
    reused_tokens: int = 0
    cached_tokens: int = 0
    charged_tokens: int = 0
    provider_calls: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0


class JobUsage(Counts):
    """`job` is `*` for the jobs of a tenant that has too many of them."""

    teacher: str
    job: str


class TermsAnswer(BaseModel):
    """0 is without a limit; the limits hold for each teacher."""

    tokens_per_minute: int
    in_flight: int
    weight: float
    bands: list[int]


class UsageAnswer(BaseModel):
    """`kept_by` server: counted by all workers, across restarts; process: by this one, since `since`."""

    tenant: str
    kept_by: str
    since: str | None
    terms: TermsAnswer
    total: Counts
    jobs: list[JobUsage]


def usage_router(service: TeacherService) -> APIRouter:
    """The route on this service."""
    router = door_router()

    @router.get("/v1/usage", response_model=UsageAnswer)
    @needs(ANY_KEY)
    async def usage(call: CurrentCall, tenant: str = "") -> UsageAnswer:
        """What the caller's own jobs used; a key with the scope metrics or admin may name another tenant."""
        return await usage_answer(service, call.identity, tenant)

    return router


async def usage_answer(service: TeacherService, identity: Identity, asked: str) -> UsageAnswer:
    """The counts that this caller may see; a key that is bound to a job sees that job."""
    tenant = check_name(asked, "tenant") if asked else identity.tenant
    if tenant != identity.tenant and not identity.scopes & SEES_ALL:
        identity.require(Scope.METRICS)
    own_job = identity.job if tenant == identity.tenant and not identity.scopes & SEES_ALL else None
    jobs: list[JobUsage] = []
    for teacher in service.names:
        jobs += _job_rows(teacher, await service.accounts.usage(service.all_names(teacher), tenant), own_job)
    book = service.accounts.book
    terms = identity.terms if tenant == identity.tenant else service.accounts.terms(tenant, "")
    return UsageAnswer(
        tenant=tenant,
        kept_by="server" if book.shared else "process",
        since=None if book.shared else book.since.isoformat(),
        terms=_terms_answer(terms),
        total=Counts(**{counter.value: sum(getattr(job, counter.value) for job in jobs) for counter in Counter}),
        jobs=jobs,
    )


def _job_rows(teacher: str, usage: Usage, own_job: str | None) -> list[JobUsage]:
    return [
        JobUsage(teacher=teacher, job=job, **{counter.value: count for counter, count in counts.items()})
        for job, counts in sorted(usage.items())
        if own_job in (None, job)
    ]


def _terms_answer(terms: Terms) -> TermsAnswer:
    limits = terms.limits
    return TermsAnswer(
        tokens_per_minute=limits.tokens_per_minute, in_flight=limits.in_flight, weight=terms.weight, bands=list(terms.bands)
    )
