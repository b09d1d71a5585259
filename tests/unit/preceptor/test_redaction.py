"""Secrets stay out of text, whichever way they got into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import redaction
from preceptor.redaction import REDACTED, is_secret_name, redact, redact_text, remember_secret


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_remembered", set())


@pytest.mark.parametrize("name", ["password", "redis_password", "API_KEY", "x-api-key", "apiKey", "Authorization", "auth_token"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert redact(name, "anything") == REDACTED


@pytest.mark.parametrize("name", ["tokens", "token_id", "key_file", "api_key_file", "max_tokens", "key", "secretary", "job"])
def test_everyday_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)
    assert redact(name, "anything") == "anything"


@given(
    secret=st.text(min_size=redaction.MIN_SEARCHED_CHARS, max_size=30), before=st.text(max_size=20), after=st.text(max_size=20)
)
def test_a_remembered_secret_is_found_anywhere(secret: str, before: str, after: str) -> None:
    remember_secret(secret)
    try:
        shown = redact_text(f"{before}{secret}{after}")
        assert all(secret not in part for part in shown.split(REDACTED))
    finally:
        redaction._remembered.discard(secret)


def test_a_short_secret_is_hidden_alone_but_does_not_eat_words() -> None:
    remember_secret("an")
    assert redact_text("an") == REDACTED
    assert redact_text("a plan") == "a plan"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pw@host:6379/0", f"redis://{REDACTED}@host:6379/0"),
        ("https://KEY@host/v1", f"https://{REDACTED}@host/v1"),
        ("GET /k/KEY/v1/models?x=1", f"GET /k/{REDACTED}/v1/models?x=1"),
        ("Authorization: Bearer KEY", f"Authorization: Bearer {REDACTED}"),
        ("Authorization: Basic S0VZOg==", f"Authorization: Basic {REDACTED}"),
        ("redis://h/0?db=1&password=pw&x=2", f"redis://h/0?db=1&password={REDACTED}&x=2"),
        ("a basic plan", "a basic plan"),
        (f"no such key: pk_abcdefgh_{'a2' * 16}!", f"no such key: pk_abcdefgh_{REDACTED}!"),
        ("mail me@host about http://host/a", "mail me@host about http://host/a"),
    ],
)
def test_keys_in_urls_paths_and_headers(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_containers_are_walked_and_numbers_kept() -> None:
    value = {"rows": 3, "ok": True, "none": None, "inner": [{"password": "x"}, "redis://u:p@h"], "api_key": ""}
    expected = {"rows": 3, "ok": True, "none": None, "inner": [{"password": REDACTED}, f"redis://{REDACTED}@h"], "api_key": ""}
    assert redact("event", value) == expected


def test_an_object_is_shown_as_redacted_text() -> None:
    remember_secret("hunter22")
    assert redact("error", ValueError("wrong: hunter22")) == f"wrong: {REDACTED}"
