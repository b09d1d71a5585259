"""`preceptor keys create|list|limit|revoke|rotate`: the operator's side of the key file."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.options import Json
from preceptor.cli.output import print_json, print_table, say
from preceptor.errors import ConfigurationError, Conflict
from preceptor.limits import check_name
from preceptor.queue.quotas import MAX_TOKENS, QuotaLimits
from preceptor.suggest import did_you_mean
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import hand_over, issue_key, revoke_key, rotate_key, set_terms
from preceptor_serving.auth.key_file import read_key_file
from preceptor_serving.auth.keys import KeyRecord
from preceptor_serving.auth.redis_acl import acl_user
from preceptor_serving.auth.terms import ALL_BANDS, LARGEST_WEIGHT, LEAST_WEIGHT, Terms

PASSWORD_BYTES = 32
SCOPES = " | ".join(Scope)
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the key to a new file, not to stdout.")]
Weight = Annotated[
    float | None,
    typer.Option("--weight", min=LEAST_WEIGHT, max=LARGEST_WEIGHT, metavar="W", help="Share of its jobs; unset: the tenant's."),
]
Bands = Annotated[
    list[int] | None,
    typer.Option("--band", min=ALL_BANDS[0], max=ALL_BANDS[-1], metavar="N", help="A band it may use; repeat for several."),
]
Days = Annotated[int | None, typer.Option("--days", min=1, metavar="N", help="Days until it expires; unset: never.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The eight characters after pk_.")]
KeyFileOption = Annotated[Path, typer.Option("--key-file", metavar="FILE", help="File of hashed keys, as services name it.")]


def create(
    key_file: KeyFileOption,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whom the key belongs to.")],
    scopes: Annotated[list[str], typer.Option("--scope", metavar="SCOPE", help=f"{SCOPES}; repeat for several.")],
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="The only job that the key may be used for.")] = None,
    days: Days = None,
    weight: Weight = None,
    bands: Bands = None,
    out: Out = None,
) -> None:
    """Add a key to a key file and show it, this once: the file keeps its hash alone."""
    held = frozenset(_scope(name) for name in scopes)
    names = [check_name(name, field) for name, field in ((tenant, "tenant"), (job, "job")) if name is not None]
    _refuse_to_overwrite(out)
    own = tuple(sorted(set(bands))) if bands else None
    key, record = issue_key(key_file, names[0], held, job=job, expires=_in_days(days), weight=weight, bands=own)
    _show(key, out)
    typer.echo(f"key {record.id} of tenant {tenant}: {_told(record)}", err=True)


def list_keys(key_file: KeyFileOption, as_json: Json = False) -> None:
    """The keys of a key file: ids, owners and rights, never a secret."""
    records = list(read_key_file(key_file).values())
    if as_json:
        print_json([_plain(record) for record in records])
    else:
        rows = [(record.id, record.tenant, record.job or "any", _told(record)) for record in records]
        print_table(("id", "tenant", "job", "what it may"), rows)


def revoke(key_id: KeyId, key_file: KeyFileOption) -> None:
    """Refuse a key from now on; running services notice within a second."""
    record = revoke_key(key_file, key_id)
    say(f"key {record.id} of tenant {record.tenant} is revoked")


def rotate(
    key_id: KeyId,
    key_file: KeyFileOption,
    grace_hours: Annotated[
        float, typer.Option("--grace-hours", min=0.0, max=24 * 365.0, metavar="H", help="How long the old key is let in yet.")
    ] = 24.0,
    days: Days = None,
    out: Out = None,
) -> None:
    """Replace a key: the new one has the same rights, the old one is let in until the grace is over."""
    _refuse_to_overwrite(out)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=grace_hours)
    key, fresh, ending = rotate_key(key_file, key_id, until, _in_days(days))
    _show(key, out)
    typer.echo(f"key {fresh.id} of tenant {fresh.tenant}: {_told(fresh)}", err=True)
    typer.echo(f"key {ending.id} before it: {_told(ending)}", err=True)


def limit(
    tenant: Annotated[str, typer.Argument(metavar="TENANT")],
    key_file: KeyFileOption,
    tokens_per_minute: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=0, max=MAX_TOKENS, metavar="N", help="At each teacher; 0: no limit.")
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option("--in-flight", min=0, max=1_000_000, metavar="N", help="Sequences at once; 0: no limit.")
    ] = None,
    weight: Weight = None,
    bands: Bands = None,
) -> None:
    """Set what a tenant may use; what is not named stays. Running services notice within a second."""

    def change(terms: Terms) -> Terms:
        limits = QuotaLimits(
            terms.limits.tokens_per_minute if tokens_per_minute is None else tokens_per_minute,
            terms.limits.in_flight if in_flight is None else in_flight,
        )
        return replace(terms, limits=limits).narrowed(weight, tuple(sorted(set(bands))) if bands else None)

    terms = set_terms(key_file, check_name(tenant, "tenant"), change)
    per_minute, places = (number or "no limit" for number in (terms.limits.tokens_per_minute, terms.limits.in_flight))
    told = f"tokens a minute: {per_minute}; in flight: {places}; weight {terms.weight:g}; bands {_listed(terms.bands)}"
    say(f"tenant {tenant}: {told}")


def redis_acl(
    tenant: Annotated[str, typer.Argument(metavar="TENANT")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file for the password; its owner alone may read it.")],
    teachers: Annotated[
        list[str] | None, typer.Option("--teacher", metavar="NAME", help="Only for this teacher; repeat for several.")
    ] = None,
) -> None:
    """Make a password, and print the line that gives a tenant its own part of the queue."""
    _refuse_to_overwrite(out)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    user = acl_user(tenant, password, teachers or ())
    hand_over(password, out)
    say(user.line)


def _in_days(days: int | None) -> datetime | None:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None


def _refuse_to_overwrite(out: Path | None) -> None:
    """Before the key file is changed: a key that cannot be handed over would be lost."""
    if out is not None and out.exists():
        raise Conflict(f"{out} exists already", field="out", value=str(out), hint="choose another file")


def _show(key: str, out: Path | None) -> None:
    if out is None:
        say(key)
    else:
        hand_over(key, out)


def _listed(bands: tuple[int, ...]) -> str:
    return " ".join(map(str, bands))


def _scope(name: str) -> Scope:
    try:
        return Scope(name)
    except ValueError:
        hint = did_you_mean(name, tuple(Scope))
        raise ConfigurationError(f"there is no scope {name!r}", field="scope", value=name, limit=SCOPES, hint=hint) from None


def _told(record: KeyRecord) -> str:
    until = "revoked" if record.revoked else f"until {record.expires.isoformat()}" if record.expires else "does not expire"
    own = f"; weight {record.weight:g}" if record.weight else ""
    own += f"; bands {_listed(record.bands)}" if record.bands else ""
    return f"{' '.join(sorted(record.scopes))}; {until}{own}"


def _plain(record: KeyRecord) -> dict[str, object]:
    expires = record.expires.isoformat() if record.expires else None
    return {
        "id": record.id,
        "tenant": record.tenant,
        "job": record.job,
        "scopes": sorted(record.scopes),
        "expires": expires,
        "revoked": record.revoked,
        "weight": record.weight,
        "bands": record.bands,
    }
