"""API keys: `pk_<id>_<secret>`. The id may be shown anywhere; of the whole key only a sha256 digest is kept.

The secret has 160 random bits, so a plain digest cannot be guessed back: slow password hashes would only slow the door.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from preceptor.errors import Unauthenticated
from preceptor_serving.auth.identity import Identity, Scope
from preceptor_serving.auth.terms import UNLIMITED

ID_BYTES = 5
SECRET_BYTES = 20
_SHAPE = re.compile(r"pk_([a-z2-7]{8})_([a-z2-7]{32})")
_NOBODY_SHA256 = hashlib.sha256(b"no key has this digest").hexdigest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key."""

    id: str
    sha256: str
    tenant: str
    scopes: frozenset[Scope]
    job: str | None = None
    expires: datetime | None = None
    revoked: bool = False
    weight: float | None = None  # of its jobs; None: the tenant's
    bands: tuple[int, ...] | None = None

    @property
    def identity(self) -> Identity:
        return Identity(self.tenant, self.id, self.scopes, self.job, UNLIMITED.narrowed(self.weight, self.bands))

    def valid(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return not self.revoked and (self.expires is None or now < self.expires)


def mint_key(
    tenant: str,
    scopes: frozenset[Scope],
    *,
    job: str | None = None,
    expires: datetime | None = None,
    weight: float | None = None,
    bands: tuple[int, ...] | None = None,
) -> tuple[str, KeyRecord]:
    """A new key, which is shown to its owner once, and the record to store."""
    key_id = _base32(secrets.token_bytes(ID_BYTES))
    key = f"pk_{key_id}_{_base32(secrets.token_bytes(SECRET_BYTES))}"
    return key, KeyRecord(key_id, digest(key), tenant, scopes, job, expires, weight=weight, bands=bands)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def identify(key: str, records: Mapping[str, KeyRecord], now: datetime | None = None) -> Identity:
    """The identity behind a key, or `Unauthenticated` whose text never contains what was presented.

    An unknown id costs the same comparison as a known one, and nothing about a key is told before its secret matched.
    """
    match = _SHAPE.fullmatch(key)
    record = records.get(match.group(1)) if match else None
    if not hmac.compare_digest(digest(key), record.sha256 if record else _NOBODY_SHA256) or record is None:
        raise _refusal("the key is not known here")
    if record.revoked:
        raise _refusal(f"key {record.id} was revoked")
    if record.expires is not None and (now or datetime.now(UTC)) >= record.expires:
        raise _refusal(f"key {record.id} expired at {record.expires.isoformat()}")
    return record.identity


def _refusal(message: str) -> Unauthenticated:
    return Unauthenticated(message, field="authorization", hint="ask the operator for a valid key")


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
