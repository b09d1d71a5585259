"""Gives keys out and takes them back: the file of hashes changes in one step, and a running service reads it within a second."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from preceptor.errors import Conflict, NotFound
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import read_key_ring, write_key_file
from preceptor_serving.auth.keys import KeyRecord, mint_key
from preceptor_serving.auth.ring import KeyRing
from preceptor_serving.auth.terms import UNLIMITED, Terms


def issue_key(
    path: Path,
    tenant: str,
    scopes: frozenset[Scope],
    *,
    job: str | None = None,
    expires: datetime | None = None,
    weight: float | None = None,
    bands: tuple[int, ...] | None = None,
) -> tuple[str, KeyRecord]:
    """A new key and its record, which is in the file when this returns; a file that does not exist is made."""
    key, record = mint_key(tenant, scopes, job=job, expires=expires, weight=weight, bands=bands)
    ring = read_key_ring(path) if path.exists() else KeyRing()
    _write(path, replace(ring, records=ring.records | {record.id: record}))
    return key, record


def revoke_key(path: Path, key_id: str) -> KeyRecord:
    """The record of a key that is refused from now on; it stays in the file, so that its holder is told why."""
    ring = read_key_ring(path)
    revoked = replace(_named(ring, path, key_id), revoked=True)
    _write(path, replace(ring, records=ring.records | {key_id: revoked}))
    return revoked


def rotate_key(path: Path, key_id: str, until: datetime, expires: datetime | None) -> tuple[str, KeyRecord, KeyRecord]:
    """A new key with the rights of an old one, and both records; the old one is let in until then, or as long as it was."""
    ring = read_key_ring(path)
    old = _named(ring, path, key_id)
    if not old.valid(datetime.now(UTC)):
        raise Conflict(
            f"key {key_id} is not valid any more", field="id", value=key_id, hint="preceptor keys create makes a new one"
        )
    key, fresh = mint_key(old.tenant, old.scopes, job=old.job, expires=expires or old.expires, weight=old.weight, bands=old.bands)
    ending = replace(old, expires=min(until, old.expires) if old.expires else until)
    _write(path, replace(ring, records=ring.records | {key_id: ending, fresh.id: fresh}))
    return key, fresh, ending


def set_terms(path: Path, tenant: str, change: Callable[[Terms], Terms]) -> Terms:
    """The terms of a tenant from now on; a file that does not exist is made."""
    ring = read_key_ring(path) if path.exists() else KeyRing()
    terms = change(ring.tenants.get(tenant, UNLIMITED))
    _write(path, replace(ring, tenants=ring.tenants | {tenant: terms}))
    return terms


def _named(ring: KeyRing, path: Path, key_id: str) -> KeyRecord:
    if key_id not in ring.records:
        raise NotFound(f"{path.name} has no key {key_id}", field="id", value=key_id, hint="preceptor keys list shows all ids")
    return ring.records[key_id]


def _write(path: Path, ring: KeyRing) -> None:
    write_key_file(path, ring.records.values(), ring.tenants)


def hand_over(key: str, path: Path) -> None:
    """The key in a file of its own that nobody else may read; a file that is there already is left alone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"{path} exists already", field="out", value=str(path), hint="choose another file") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{key}\n")
