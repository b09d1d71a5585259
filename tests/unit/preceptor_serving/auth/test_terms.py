"""What tenants and keys are granted: read from the key file, narrowed by a key, kept by every command that writes the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from preceptor.cli import run
from preceptor.errors import ConfigurationError, PermissionDenied, Unauthenticated
from preceptor.queue.quotas import QuotaLimits
from preceptor_serving.auth.gate import KeyGate, gate_for
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import issue_key
from preceptor_serving.auth.key_file import KeyFile, read_key_ring
from preceptor_serving.auth.terms import UNLIMITED, Terms

SCORE = frozenset({Scope.SCORE})
LIMITS = ("--tokens-per-minute", "5000", "--in-flight", "7", "--weight", "2", "--band", "3", "--band", "1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def keys(path: Path, command: str, *more: str) -> int:
    return run(["keys", command, *more, "--key-file", str(path)])


def gate(path: Path) -> KeyGate:
    return KeyGate(KeyFile(path))


def test_a_tenants_terms_reach_the_identity_of_its_keys_and_its_queued_work(path: Path) -> None:
    assert keys(path, "limit", "acme", *LIMITS) == 0
    key, _ = issue_key(path, "acme", SCORE)
    other, _ = issue_key(path, "umbrella", SCORE)
    terms = Terms(QuotaLimits(5000, 7), 2.0, (1, 3))
    assert gate(path).identify(key).terms == terms == gate(path).terms("acme", "any job")
    assert gate(path).identify(other).terms == UNLIMITED == gate(path).terms("umbrella", "any job")


def test_a_key_has_a_weight_and_bands_of_its_own_and_the_limits_of_its_tenant(path: Path) -> None:
    assert keys(path, "limit", "acme", *LIMITS) == 0
    key, _ = issue_key(path, "acme", SCORE, job="run-7", weight=4.0, bands=(5,))
    own = Terms(QuotaLimits(5000, 7), 4.0, (5,))
    assert gate(path).identify(key).terms == own == gate(path).terms("acme", "run-7")
    assert gate(path).terms("acme", "run-8").weight == 2.0
    ended = datetime.now(UTC) - timedelta(days=1)
    issue_key(path, "acme", SCORE, job="run-8", weight=9.0, expires=ended)
    assert gate(path).terms("acme", "run-8").weight == 2.0  # an expired key speaks for nobody


def test_a_limit_changes_what_it_names_and_nothing_else(path: Path) -> None:
    assert keys(path, "limit", "acme", *LIMITS) == 0
    assert keys(path, "limit", "acme", "--tokens-per-minute", "0") == 0
    assert read_key_ring(path).tenants == {"acme": Terms(QuotaLimits(0, 7), 2.0, (1, 3))}


def test_commands_that_write_keys_keep_the_tenants(path: Path) -> None:
    assert keys(path, "limit", "acme", *LIMITS) == 0
    before = read_key_ring(path).tenants
    _, record = issue_key(path, "acme", SCORE)
    assert keys(path, "rotate", record.id) == 0
    assert keys(path, "revoke", record.id) == 0
    assert read_key_ring(path).tenants == before


def test_a_rotated_key_opens_the_same_doors_and_the_old_one_ends_with_its_grace(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old_key, old = issue_key(path, "acme", SCORE, job="run-7", weight=4.0, bands=(2,))
    assert keys(path, "rotate", old.id, "--grace-hours", "2") == 0
    new_key = capsys.readouterr().out.strip()
    one, other = gate(path).identify(old_key), gate(path).identify(new_key)
    assert (one.tenant, one.job, one.scopes, one.terms) == (other.tenant, other.job, other.scopes, other.terms)
    ends = read_key_ring(path).records[old.id].expires
    assert ends is not None
    assert timedelta(hours=1.9) < ends - datetime.now(UTC) <= timedelta(hours=2)
    assert read_key_ring(path).records[other.key_id].expires is None


def test_a_rotation_without_grace_ends_the_old_key_at_once_and_a_revoked_one_cannot_be_rotated(path: Path) -> None:
    key, record = issue_key(path, "acme", SCORE)
    assert keys(path, "rotate", record.id, "--grace-hours", "0") == 0
    with pytest.raises(Unauthenticated, match="expired"):
        gate_for("0.0.0.0", path).identify(key)
    assert keys(path, "rotate", record.id) == 1
    assert keys(path, "rotate", "aaaaaaaa") == 2


def test_a_grace_never_prolongs_a_key(path: Path) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    _, record = issue_key(path, "acme", SCORE, expires=soon)
    assert keys(path, "rotate", record.id, "--grace-hours", "48") == 0
    assert {one.expires for one in read_key_ring(path).records.values()} == {soon}


@pytest.mark.parametrize(
    "entry", ["{tokens: 5}", "{weight: 0}", "{weight: 101}", "{bands: []}", "{bands: [8]}", "{in_flight: -1}"]
)
def test_terms_that_make_no_sense_are_refused_by_name(path: Path, entry: str) -> None:
    path.write_text(f"tenants: {{acme: {entry}}}")
    with pytest.raises(ConfigurationError, match=r"tenants\.acme\."):
        read_key_ring(path)


def test_bands() -> None:
    terms = Terms(bands=(2, 5))
    assert [terms.band_for(asked) for asked in (0, 2, 5)] == [2, 2, 5]
    with pytest.raises(PermissionDenied) as refused:
        terms.band_for(1)
    assert (refused.value.field, refused.value.value, refused.value.limit) == ("band", "1", "2, 5")
