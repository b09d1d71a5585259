"""One secret for each tenant, so that no tenant can name, guess or time another's entries.

They follow from one random secret: it lives in the cache's folder, readable by the service's user alone, or in memory where there
is no folder. Without it the entries cannot be found again; it never leaves the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from preceptor.errors import ConfigurationError
from preceptor_serving.durable import sync_folder

SECRET_FILE = "secret"  # noqa: S105 - a file's name
SECRET_BYTES = 32
TENANT_DOMAIN = b"preceptor cache tenant 1\n"


class TenantSecrets:
    """Derives them, and remembers those it has derived."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: dict[str, bytes] = {}

    def of(self, tenant: str) -> bytes:
        if tenant not in self._known:
            self._known[tenant] = hmac.new(self._root, TENANT_DOMAIN + tenant.encode(), hashlib.sha256).digest()
        return self._known[tenant]


def root_secret(folder: Path | None, field: str = "score_cache_folder") -> bytes:
    """The folder's secret, made at its first use; without a folder one that ends with the process. `field` names the folder."""
    if folder is None:
        return secrets.token_bytes(SECRET_BYTES)
    path = folder / SECRET_FILE
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(
            "the folder's secret can be read by others",
            field=field,
            value=str(path),
            hint=f"chmod 600 {path}",
        )
    root = path.read_bytes()
    if len(root) != SECRET_BYTES:
        raise ConfigurationError(
            f"{path} is no secret of such a folder",
            field=field,
            value=f"{len(root)} bytes",
            limit=f"{SECRET_BYTES} bytes",
            hint="empty the folder: what it holds cannot be found again without the secret",
        )
    return root


def _make(path: Path) -> None:
    """Whole or not there; of several processes that make it at once, one wins."""
    temporary = path.with_name(f".{SECRET_FILE}-{os.getpid()}-{secrets.token_hex(4)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    sync_folder(path.parent)
