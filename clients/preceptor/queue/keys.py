"""Names of the keys of the ``pc1`` protocol. A pure function of checked names; nothing else ever builds a key.

The part in braces is what a cluster hashes: all keys of one teacher live in one slot, both keys of one log in another.
Names cannot contain braces, colons or blanks, so no name can reach into another slot, tenant or job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from preceptor.errors import InvalidArgument, TooLarge
from preceptor.limits import check_name
from preceptor.names import rollout_text
from preceptor.queue.quotas import PROVIDER_REQUESTS, PROVIDER_TOKENS
from preceptor.types import RolloutId

VERSION = "pc1"
MAX_NAME_BYTES = 128
MAX_TEACHER_BYTES = 256
MAX_ID_BYTES = 256
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*\Z")


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """The work of one job for one teacher. Tenant and job come from the caller's key, never from a message."""

    teacher: str
    tenant: str
    job: str

    def __post_init__(self) -> None:
        _check(self.teacher, "teacher", MAX_TEACHER_BYTES)
        _check(self.tenant, "tenant", MAX_NAME_BYTES)
        _check(self.job, "job", MAX_NAME_BYTES)

    @property
    def ready(self) -> str:
        """Sorted set: task id by `ranks.ready_score`: the deadline within the band, suspects apart."""
        return f"{self._prefix}:ready"

    @property
    def out(self) -> str:
        """Stream of results; one field ``p``, an Envelope."""
        return f"{self._prefix}:out"

    @property
    def dead(self) -> str:
        """Stream of dead letters; one field ``p``, a DeadLetter."""
        return f"{self._prefix}:dead"

    def task(self, task_id: str) -> str:
        """Hash: one task's state."""
        return f"{self._prefix}:task:{check_id(task_id, 'task_id')}"

    def blob(self, blob_id: str) -> str:
        """String: serialised Rows that are too large for `out`."""
        return f"{self._prefix}:blob:{check_id(blob_id, 'blob_id')}"

    @property
    def _prefix(self) -> str:
        return f"{VERSION}:{{{self.teacher}}}:{self.tenant}:{self.job}"


@dataclass(frozen=True, slots=True, order=True)
class LogName:
    """The response log of one attempt at one rollout."""

    tenant: str
    job: str
    attempt: str

    def __post_init__(self) -> None:
        _check(self.tenant, "tenant", MAX_NAME_BYTES)
        _check(self.job, "job", MAX_NAME_BYTES)
        check_id(self.attempt, "attempt")

    @classmethod
    def of(cls, tenant: str, job: str, rollout: RolloutId) -> LogName:
        return cls(tenant, job, rollout_text(rollout))

    @property
    def ids(self) -> str:
        """Stream of LogEntry; the entry at offset o has the id ``(o + 1)-0``, so the stream is its own index."""
        return f"{self._prefix}:ids"

    @property
    def subs(self) -> str:
        """Set of ``<teacher>:<task id>``: whom to poke."""
        return f"{self._prefix}:subs"

    @property
    def _prefix(self) -> str:
        return f"{VERSION}:{{log:{self.tenant}:{self.job}:{self.attempt}}}"


def flows_key(teacher: str) -> str:
    """Hash: the virtual clock of each flow and band, and each flow's unread bytes."""
    return f"{_teacher_prefix(teacher)}:flows"


def leases_key(teacher: str) -> str:
    """Sorted set: ``<tenant>:<job>:<task id>`` by the millisecond at which the lease ends."""
    return f"{_teacher_prefix(teacher)}:leases"


def quota_key(teacher: str, tenant: str) -> str:
    """Hash: the reservations of the tenant at this teacher, or of all services together at its provider."""
    whose = tenant if tenant in (PROVIDER_REQUESTS, PROVIDER_TOKENS) else _check(tenant, "tenant", MAX_NAME_BYTES)
    return f"{_teacher_prefix(teacher)}:quota:{whose}"


def teacher_of(key: str) -> str | None:
    """The teacher whose list of flows this key is; None for every other key."""
    return slot_tag(key) if key.startswith(f"{VERSION}:{{") and key.endswith("}:flows") else None


def usage_key(teacher: str, tenant: str) -> str:
    """Hash: what the tenant used at this teacher, job by job."""
    return f"{_teacher_prefix(teacher)}:usage:{_check(tenant, 'tenant', MAX_NAME_BYTES)}"


def slot_tag(key: str) -> str:
    """What a cluster hashes of a key: the text in its first braces."""
    return key[key.index("{") + 1 : key.index("}")]


def kind_of(key: str) -> str:
    """What a key is: ready, task, out, dead, blob, flows, leases, quota, usage, ids or subs."""
    parts = key[key.index("}") + 2 :].split(":")
    return parts[2] if len(parts) > 2 else parts[0]


def check_id(value: str, field: str) -> str:
    """The value itself when it can stand in a key: a name that may also contain slashes."""
    if not ID.match(value):
        raise InvalidArgument(f"{field} is not an id", field=field, value=value, limit="[A-Za-z0-9][A-Za-z0-9._/-]*")
    return _bounded(value, field, MAX_ID_BYTES)


def _teacher_prefix(teacher: str) -> str:
    return f"{VERSION}:{{{_check(teacher, 'teacher', MAX_TEACHER_BYTES)}}}"


def _check(value: str, field: str, max_bytes: int) -> str:
    return _bounded(check_name(value, field), field, max_bytes)


def _bounded(value: str, field: str, max_bytes: int) -> str:
    if len(value) > max_bytes:
        raise TooLarge(f"{field} is too long", field=field, value=len(value), limit=f"{max_bytes} bytes")
    return value
