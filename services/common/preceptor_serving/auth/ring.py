"""Keys and tenants as a whole: which terms hold for whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from preceptor_serving.auth.keys import KeyRecord
from preceptor_serving.auth.terms import UNLIMITED, Terms


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What a key file says."""

    records: dict[str, KeyRecord] = field(default_factory=dict)
    tenants: dict[str, Terms] = field(default_factory=dict)

    def terms_of(self, record: KeyRecord) -> Terms:
        """Those of its tenant, with what the key has of its own."""
        return self.tenants.get(record.tenant, UNLIMITED).narrowed(record.weight, record.bands)

    def terms(self, tenant: str, job: str) -> Terms:
        """Of work that came without a key, through the queue: those of the newest valid key that is bound to its job."""
        now = datetime.now(UTC)
        bound = (one for one in reversed(self.records.values()) if (one.tenant, one.job) == (tenant, job) and one.valid(now))
        record = next(bound, None)
        return self.terms_of(record) if record is not None else self.tenants.get(tenant, UNLIMITED)
