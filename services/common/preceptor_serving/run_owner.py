"""Whose run it is: a file in the run's folder names the tenant that opened it first; no other tenant's key reaches it.

    <root>/<run>/tenant

A folder without that file belongs to nobody yet. Where a service asks for no keys, everybody is the operator.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from preceptor.errors import PermissionDenied
from preceptor.limits import check_name
from preceptor_serving.auth.identity import LOCAL, Identity
from preceptor_serving.durable import make_folder, write_file

FILE = "tenant"


def claim(root: Path, run: str, identity: Identity) -> None:
    """The run is this tenant's when it returns, for good; `PermissionDenied` where it is another's."""
    require_owner([root], run, identity)
    path = root / run / FILE
    if not path.exists():
        make_folder(path.parent)
        write_file(path, identity.tenant.encode())


def require_owner(roots: Iterable[Path], run: str, identity: Identity) -> None:
    """Nothing where the run is the caller's, nobody's, or not there."""
    if identity != LOCAL and run:
        check_owner(roots, run, identity.tenant)


def check_owner(roots: Iterable[Path], run: str, tenant: str) -> None:
    """The same for a tenant whose key was checked elsewhere, such as at the durable door."""
    for root in roots:
        path = root / check_name(run, "run") / FILE
        if path.exists() and path.read_text(encoding="utf-8") != tenant:
            raise PermissionDenied(
                f"run {run!r} belongs to another tenant", field="run", value=run, hint="choose another name for your run"
            )
