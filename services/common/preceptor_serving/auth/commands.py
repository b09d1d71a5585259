"""`preceptor keys create|list|revoke`: the operator's side of the key file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.options import Json
from preceptor.cli.output import print_json, print_table, say
from preceptor.errors import ConfigurationError, Conflict
from preceptor.limits import check_name
from preceptor.suggest import did_you_mean
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import hand_over, issue_key, revoke_key
from preceptor_serving.auth.key_file import read_key_file
from preceptor_serving.auth.keys import KeyRecord

SCOPES = " | ".join(Scope)
KeyFileOption = Annotated[Path, typer.Option("--key-file", metavar="FILE", help="File of hashed keys, as services name it.")]


def create(
    key_file: KeyFileOption,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whom the key belongs to.")],
    scopes: Annotated[list[str], typer.Option("--scope", metavar="SCOPE", help=f"{SCOPES}; repeat for several.")],
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="The only job that the key may be used for.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, metavar="N", help="Days until it expires; unset: never.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the key to a new file, not to stdout.")] = None,
) -> None:
    """Add a key to a key file and show it, this once: the file keeps its hash alone."""
    held = frozenset(_scope(name) for name in scopes)
    names = [check_name(name, field) for name, field in ((tenant, "tenant"), (job, "job")) if name is not None]
    if out is not None and out.exists():
        raise Conflict(f"{out} exists already", field="out", value=str(out), hint="choose another file")
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    key, record = issue_key(key_file, names[0], held, job=job, expires=expires)
    if out is None:
        say(key)
    else:
        hand_over(key, out)
    typer.echo(f"key {record.id} of tenant {tenant}: {_told(record)}", err=True)


def list_keys(key_file: KeyFileOption, as_json: Json = False) -> None:
    """The keys of a key file: ids, owners and rights, never a secret."""
    records = list(read_key_file(key_file).values())
    if as_json:
        print_json([_plain(record) for record in records])
    else:
        rows = [(record.id, record.tenant, record.job or "any", _told(record)) for record in records]
        print_table(("id", "tenant", "job", "what it may"), rows)


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The eight characters after pk_.")], key_file: KeyFileOption
) -> None:
    """Refuse a key from now on; running services notice within a second."""
    record = revoke_key(key_file, key_id)
    say(f"key {record.id} of tenant {record.tenant} is revoked")


def _scope(name: str) -> Scope:
    try:
        return Scope(name)
    except ValueError:
        hint = did_you_mean(name, tuple(Scope))
        raise ConfigurationError(f"there is no scope {name!r}", field="scope", value=name, limit=SCOPES, hint=hint) from None


def _told(record: KeyRecord) -> str:
    until = "revoked" if record.revoked else f"until {record.expires.isoformat()}" if record.expires else "does not expire"
    return f"{' '.join(sorted(record.scopes))}; {until}"


def _plain(record: KeyRecord) -> dict[str, object]:
    expires = record.expires.isoformat() if record.expires else None
    return {
        "id": record.id,
        "tenant": record.tenant,
        "job": record.job,
        "scopes": sorted(record.scopes),
        "expires": expires,
        "revoked": record.revoked,
    }
