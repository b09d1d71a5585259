"""The file of hashed keys: YAML or JSON, read at start and again whenever it changes.

keys:
  - {id: abcdefgh, sha256: <64 hex digits>, tenant: acme, scopes: [score], job: run-7, expires: 2027-01-01T00:00:00Z, weight: 2}
tenants:
  acme: {tokens_per_minute: 2000000, in_flight: 256, weight: 1, bands: [1, 2]}
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from preceptor.errors import ConfigurationError
from preceptor.logs import get_logger
from preceptor.queue.quotas import MAX_TOKENS, QuotaLimits
from preceptor.queue.ranks import BANDS
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.keys import KeyRecord
from preceptor_serving.auth.ring import KeyRing
from preceptor_serving.auth.terms import ALL_BANDS, DEFAULT_WEIGHT, LARGEST_WEIGHT, LEAST_WEIGHT, Terms

CHECK_EVERY_S = 1.0
log = get_logger("preceptor.auth")

Weight = Annotated[float, Field(ge=LEAST_WEIGHT, le=LARGEST_WEIGHT, allow_inf_nan=False)]
Bands = Annotated[frozenset[Annotated[int, Field(ge=0, lt=BANDS)]], Field(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
FileStamp = tuple[int, int, int]


class KeyEntry(BaseModel):
    """One key as the file holds it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{8}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    tenant: Name
    scopes: frozenset[Scope]
    job: Name | None = None
    expires: datetime | None = None
    revoked: bool = False
    weight: Weight | None = None
    bands: Bands | None = None

    def record(self) -> KeyRecord:
        expires = self.expires.replace(tzinfo=UTC) if self.expires and self.expires.tzinfo is None else self.expires
        bands = tuple(sorted(self.bands)) if self.bands is not None else None
        return KeyRecord(self.id, self.sha256, self.tenant, self.scopes, self.job, expires, self.revoked, self.weight, bands)


class TenantEntry(BaseModel):
    """What one tenant is granted; 0 is without a limit."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tokens_per_minute: int = Field(default=0, ge=0, le=MAX_TOKENS)
    in_flight: int = Field(default=0, ge=0, le=1_000_000)
    weight: Weight = DEFAULT_WEIGHT
    bands: Bands = frozenset(ALL_BANDS)

    @classmethod
    def of(cls, terms: Terms) -> Self:
        limits = terms.limits
        return cls(
            tokens_per_minute=limits.tokens_per_minute,
            in_flight=limits.in_flight,
            weight=terms.weight,
            bands=frozenset(terms.bands),
        )

    def terms(self) -> Terms:
        return Terms(QuotaLimits(self.tokens_per_minute, self.in_flight), self.weight, tuple(sorted(self.bands)))


class KeyFileContent(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[KeyEntry] = Field(default_factory=list)
    tenants: dict[Name, TenantEntry] = Field(default_factory=dict)


class KeyFile:
    """The keys of a file, always current: at most once a second its stamp is compared, and a changed file is read again.

    A changed file that cannot be read leaves the last good keys in force, and `trouble` says so until it is repaired;
    at start it is an error.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.trouble: str | None = None
        self._clock = clock
        self._stamp = _stamp(path)
        self._ring = read_key_ring(path)
        self._checked_at = clock()

    def ring(self) -> KeyRing:
        """The keys and the tenants' terms."""
        if self._clock() - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = self._clock()
            self._reload_if_changed()
        return self._ring

    def records(self) -> dict[str, KeyRecord]:
        """Key id -> record."""
        return self.ring().records

    def _reload_if_changed(self) -> None:
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp and self.trouble is None:
                return
            self._ring = read_key_ring(self.path)
            self._stamp, self.trouble = stamp, None
            log.info("key_file_reloaded", keys=len(self._ring.records))
        except ConfigurationError as error:
            if self.trouble is None:
                log.error("key_file_unreadable", error=error.message, keys_in_force=len(self._ring.records))
            self.trouble = error.message


def read_key_file(path: Path) -> dict[str, KeyRecord]:
    """Key id -> record."""
    return read_key_ring(path).records


def read_key_ring(path: Path) -> KeyRing:
    """Keys and tenants; `ConfigurationError` names what is wrong and where, never a value."""
    try:
        content = KeyFileContent.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error.__class__.__name__) from None
    except yaml.YAMLError as error:
        raise _unreadable(path, f"not YAML or JSON{_place(error)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    records = {entry.id: entry.record() for entry in content.keys}
    if len(records) != len(content.keys):
        raise _unreadable(path, "two keys share an id")
    return KeyRing(records, {name: entry.terms() for name, entry in content.tenants.items()})


def write_key_file(path: Path, records: Iterable[KeyRecord], tenants: Mapping[str, Terms] | None = None) -> None:
    """Replaces the file in one step: a service that reloads it sees the old keys or the new ones, never half."""
    named = {name: TenantEntry.of(terms) for name, terms in (tenants or {}).items()}
    entries = [KeyEntry(**{name: getattr(record, name) for name in KeyEntry.model_fields}) for record in records]
    plain = KeyFileContent(keys=entries, tenants=named).model_dump(mode="json", exclude_defaults=True)
    for entry in plain.get("keys", []):
        entry["scopes"] = sorted(entry["scopes"])
    for entry in (*plain.get("keys", []), *plain.get("tenants", {}).values()):
        if "bands" in entry:
            entry["bands"] = sorted(entry["bands"])
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(yaml.safe_dump(plain, sort_keys=False))
    fresh.chmod(0o600)
    fresh.replace(path)


def _stamp(path: Path) -> FileStamp:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error.__class__.__name__) from None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark is not None else ""


def _unreadable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"key file {path.name} cannot be used: {why}",
        field="key_file",
        value=str(path),
        limit="keys: [{id, sha256, tenant, scopes, ...}], tenants: {NAME: {tokens_per_minute, ...}}",
        hint="it holds sha256 digests of keys, never the keys themselves",
    )
