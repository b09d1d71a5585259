"""Keys: what is let in, what is told, and what is never told."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import PermissionDenied, Unauthenticated
from preceptor_serving.auth.credentials import key_in_headers, split_key_path
from preceptor_serving.auth.identity import LOCAL, Identity, Scope
from preceptor_serving.auth.keys import KeyRecord, identify, mint_key

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SCORE = frozenset({Scope.SCORE})


def minted(**changes: object) -> tuple[str, dict[str, KeyRecord]]:
    from dataclasses import replace

    key, record = mint_key("acme", SCORE)
    return key, {record.id: replace(record, **changes)}


def test_a_key_is_known_by_its_digest_alone() -> None:
    key, records = minted(job="run-7")
    record = next(iter(records.values()))
    assert key.startswith(f"pk_{record.id}_")
    assert key.rpartition("_")[2] not in repr(record)
    assert identify(key, records, NOW) == Identity("acme", record.id, SCORE, "run-7")


def test_keys_are_all_different() -> None:
    assert len({mint_key("acme", SCORE)[0] for _ in range(200)}) == 200


@given(st.text(max_size=60))
def test_nothing_else_is_let_in_and_nothing_presented_is_repeated(text: str) -> None:
    key, records = minted()
    for presented in (text, key + text if text else "x", key[:-1], key.upper()):
        with pytest.raises(Unauthenticated) as caught:
            identify(presented, records, NOW)
        assert presented not in caught.value.message or len(presented) < 6
        assert caught.value.value == ""


def test_a_wrong_secret_under_a_known_id_is_told_nothing_about_the_key() -> None:
    key, records = minted(revoked=True)
    other = f"{key.rpartition('_')[0]}_{'a' * 32}"
    with pytest.raises(Unauthenticated, match="not known here"):
        identify(other, records, NOW)


def test_expired_and_revoked_keys_are_told_so() -> None:
    key, records = minted(expires=NOW)
    assert identify(key, records, NOW - timedelta(seconds=1)).tenant == "acme"
    with pytest.raises(Unauthenticated, match="expired"):
        identify(key, records, NOW)
    key, records = minted(revoked=True)
    with pytest.raises(Unauthenticated, match="revoked"):
        identify(key, records, NOW)


def test_scopes_and_jobs_bind() -> None:
    identity = Identity("acme", "abcdefgh", SCORE, "run-7")
    identity.require(Scope.SCORE)
    with pytest.raises(PermissionDenied) as caught:
        identity.require(Scope.TRAIN)
    assert (caught.value.field, caught.value.limit) == ("scope", "train")
    assert identity.job_for("") == identity.job_for("run-7") == "run-7"
    with pytest.raises(PermissionDenied):
        identity.job_for("run-8")
    assert (LOCAL.job_for("mine"), LOCAL.job_for("")) == ("mine", "default")


# ---------------------------------------------------------------- ways to present a key


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer pk_a_b"}, "pk_a_b"),
        ({"authorization": "bearer  pk_a_b "}, "pk_a_b"),
        ({"x-api-key": " pk_a_b"}, "pk_a_b"),
        (basic("pk_a_b"), "pk_a_b"),
        (basic("pk_a_b:"), "pk_a_b"),
        (basic("anything:pk_a_b"), "pk_a_b"),
    ],
)
def test_every_way_gives_the_key(headers: dict[str, str], key: str | None) -> None:
    assert key_in_headers(headers) == key


@pytest.mark.parametrize("authorization", ["Digest x", "Basic !!!", "Basic /w==", "pk_a_b"])
def test_a_malformed_header_is_refused_without_repeating_it(authorization: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        key_in_headers({"authorization": authorization})
    assert authorization not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/score", (None, "/v1/score")),
        ("/k/KEY/v1/score", ("KEY", "/v1/score")),
        ("/k/KEY", ("KEY", "/")),
        ("/k/KEY/", ("KEY", "/")),
        ("/k//v1", ("", "/v1")),
        ("/kilo/x", (None, "/kilo/x")),
    ],
)
def test_a_key_in_the_path_is_taken_out(path: str, expected: tuple[str | None, str]) -> None:
    assert split_key_path(path) == expected
