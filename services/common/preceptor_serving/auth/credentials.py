"""The ways to present a key: bearer header, x-api-key, URL user-info (basic auth), path prefix /k/KEY/.

The last two exist for trainers that can set a base URL but no header.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from preceptor.errors import Unauthenticated

PATH_PREFIX = "/k/"


def key_in_headers(headers: Mapping[str, str]) -> str | None:
    """The key that headers or gRPC metadata carry (names in lower case), or None."""
    if key := headers.get("x-api-key"):
        return key.strip()
    authorization = headers.get("authorization", "")
    if not authorization:
        return None
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            return _key_in_basic(value)
        case _:
            raise Unauthenticated(
                "the authorization header has an unknown scheme",
                field="authorization",
                limit="Bearer | Basic",
                hint="send 'Authorization: Bearer pk_...'",
            )


def split_key_path(path: str) -> tuple[str | None, str]:
    """`/k/KEY/rest` as (KEY, /rest); any other path as (None, path)."""
    if not path.startswith(PATH_PREFIX):
        return None, path
    key, _, rest = path.removeprefix(PATH_PREFIX).partition("/")
    return key, f"/{rest}"


def _key_in_basic(value: str) -> str:
    """http://KEY@host and http://anything:KEY@host both work: the password counts where it is not empty."""
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("the basic authorization header is malformed", field="authorization") from None
    return password or user
