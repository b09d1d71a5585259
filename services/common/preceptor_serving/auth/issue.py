"""Gives keys out and takes them back: the file of hashes changes in one step, and a running service reads it within a second."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from preceptor.errors import Conflict, NotFound
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import read_key_file, write_key_file
from preceptor_serving.auth.keys import KeyRecord, mint_key


def issue_key(
    path: Path, tenant: str, scopes: frozenset[Scope], *, job: str | None = None, expires: datetime | None = None
) -> tuple[str, KeyRecord]:
    """A new key and its record, which is in the file when this returns; a file that does not exist is made."""
    records = read_key_file(path) if path.exists() else {}
    key, record = mint_key(tenant, scopes, job=job, expires=expires)
    write_key_file(path, [*records.values(), record])
    return key, record


def revoke_key(path: Path, key_id: str) -> KeyRecord:
    """The record of a key that is refused from now on; it stays in the file, so that its holder is told why."""
    records = read_key_file(path)
    if key_id not in records:
        raise NotFound(f"{path.name} has no key {key_id}", field="id", value=key_id, hint="preceptor keys list shows all ids")
    revoked = replace(records[key_id], revoked=True)
    write_key_file(path, (records | {key_id: revoked}).values())
    return revoked


def hand_over(key: str, path: Path) -> None:
    """The key in a file of its own that nobody else may read; a file that is there already is left alone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"{path} exists already", field="out", value=str(path), hint="choose another file") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{key}\n")
