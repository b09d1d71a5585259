"""Keeps secrets out of everything that people and machines read: logs, errors, `config show`.

Three nets, because each alone has holes: the name of a field (`api_key`), values that were loaded as secrets
(`remember_secret`), and what keys look like and where they travel in text (`pk_..._...`, URL user-info, `/k/KEY/` paths,
authorization headers).
"""

from __future__ import annotations

import re
from typing import cast

REDACTED = "[redacted]"
MIN_SEARCHED_CHARS = 6  # a shorter secret would match ordinary words; it is redacted only where it is the whole text

# `tokens`, `token_id` and `key_file` are everyday words here, so only unmistakable endings count.
_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:password|passwd|passphrase|secret|credentials?|authorization|cookie|api[^a-z]?keys?|private[^a-z]?key"
    r"|(?:access|auth|bearer|refresh|session)[^a-z]?token)$"
)
_IN_TEXT = (
    (re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE), rf"\g<keep>{REDACTED}@"),
    (re.compile(r"(?P<keep>[?&](?:password|api[_-]?key|access_token)=)[^&#\s\"']+", re.IGNORECASE), rf"\g<keep>{REDACTED}"),
    (re.compile(r"(?P<keep>/k/)[^/\s?\"']+"), rf"\g<keep>{REDACTED}"),
    (re.compile(r"(?P<keep>\b(?:bearer|authorization:?\s+basic)\s+)[^\s\"',]+", re.IGNORECASE), rf"\g<keep>{REDACTED}"),
    (re.compile(r"\b(?P<keep>pk_[a-z2-7]{8}_)[a-z2-7]{32}\b"), rf"\g<keep>{REDACTED}"),  # our own keys: the id may be shown
)
_remembered: set[str] = set()


def remember_secret(value: str) -> None:
    """From now on `redact_text` hides this value wherever it appears in this process."""
    if value:
        _remembered.add(value)


def is_secret_name(name: str) -> bool:
    """True for names such as `api_key`, `Authorization` or `redis_password`; false for `tokens` or `key_file`."""
    return bool(_SECRET_NAME.search(name.lower()))


def redact_text(text: str) -> str:
    """The text with every remembered secret and every key in a URL, path or bearer header replaced."""
    if text in _remembered:
        return REDACTED
    for secret in sorted(_remembered, key=len, reverse=True):
        if len(secret) >= MIN_SEARCHED_CHARS:
            text = text.replace(secret, REDACTED)
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact(name: str, value: object) -> object:
    """A field's value as it may be shown: containers are walked, objects become their redacted text."""
    if value is not None and value != "" and is_secret_name(name):
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {key: redact(str(key), item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [redact("", item) for item in cast("list[object]", value)]
    return redact_text(str(value))
