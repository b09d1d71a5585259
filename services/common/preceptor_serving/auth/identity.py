"""Who a call belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from preceptor.errors import PermissionDenied
from preceptor_serving.auth.terms import UNLIMITED, Terms

DEFAULT_JOB = "default"


class Scope(StrEnum):
    """What a key may be used for. A new one is a line here; every call of every door names the one it needs."""

    SCORE = "score"
    GRADE = "grade"  # apart from score: a verdict may cost money at a provider
    GENERATE = "generate"
    TRAIN = "train"
    STATUS = "status"
    METRICS = "metrics"
    ADMIN = "admin"


SEES_ALL = frozenset({Scope.METRICS, Scope.ADMIN})
"""Scopes of operators: what other keys see of their own tenant, these see of every one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The tenant and key behind a call; `job` is set where the key is bound to one job."""

    tenant: str
    key_id: str
    scopes: frozenset[Scope]
    job: str | None = None
    terms: Terms = UNLIMITED

    def require(self, scope: Scope) -> None:
        """Nothing when the key holds the scope, else `PermissionDenied` naming it."""
        if scope not in self.scopes:
            held = ", ".join(sorted(self.scopes)) or "none"
            raise PermissionDenied(
                f"key {self.key_id} does not hold scope {scope}",
                field="scope",
                value=held,
                limit=scope,
                hint="ask the operator for a key with this scope",
            )

    def job_for(self, requested: str) -> str:
        """The job that a request is accounted to; a key that is bound to a job serves no other."""
        if self.job is not None and requested not in ("", self.job):
            raise PermissionDenied(f"key {self.key_id} is bound to another job", field="job", value=requested, limit=self.job)
        return self.job or requested or DEFAULT_JOB


LOCAL = Identity(tenant="local", key_id="open", scopes=frozenset(Scope))
"""Everybody, where a service runs without keys on a loopback address."""
