"""Lets a caller in, or says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from preceptor.config.settings import is_loopback
from preceptor.errors import ConfigurationError, Unauthenticated
from preceptor.logs import get_logger
from preceptor_serving.auth.identity import LOCAL, Identity
from preceptor_serving.auth.key_file import KeyFile
from preceptor_serving.auth.keys import identify
from preceptor_serving.auth.terms import UNLIMITED, Terms

log = get_logger("preceptor.auth")


class Gate(Protocol):
    """Turns a presented key into an identity."""

    def identify(self, key: str | None) -> Identity: ...

    def terms(self, tenant: str, job: str) -> Terms:
        """Of work that came through the queue, which knows its tenant and job but no key."""
        ...

    @property
    def trouble(self) -> str | None:
        """What is wrong with the source of keys; None while all is well."""
        ...


class KeyGate:
    """Only holders of a key in the file."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys

    def identify(self, key: str | None) -> Identity:
        if not key:
            raise Unauthenticated("no key was sent", field="authorization", hint="send 'Authorization: Bearer pk_...'")
        ring = self._keys.ring()
        identity = identify(key, ring.records)
        return replace(identity, terms=ring.terms_of(ring.records[identity.key_id]))

    def terms(self, tenant: str, job: str) -> Terms:
        return self._keys.ring().terms(tenant, job)

    @property
    def trouble(self) -> str | None:
        return self._keys.trouble


class OpenGate:
    """Everybody; the doors listen on a loopback address only."""

    trouble: str | None = None

    def identify(self, key: str | None) -> Identity:
        return LOCAL

    def terms(self, tenant: str, job: str) -> Terms:
        return UNLIMITED


def gate_for(host: str, key_file: Path | None) -> Gate:
    """The gate that the settings ask for. Without keys nothing but loopback is served, whatever checked it before."""
    if key_file is not None:
        return KeyGate(KeyFile(key_file))
    if not is_loopback(host):
        raise ConfigurationError(
            f"refusing to listen on {host} without keys",
            field="host",
            value=host,
            limit="a loopback address",
            hint="set key_file, or listen on 127.0.0.1",
        )
    log.warning("open_mode", host=host, meaning="no key file: every local process may use this service")
    return OpenGate()
