"""Text of strangers inside a request, marked so that it cannot pass for the request itself.

Every request has a token of its own: drawn at random, or made of its texts with a secret that nobody outside has, so that the
same question is the same bytes and is paid once. A text can imitate the shape of a marker, but not the token, so whoever reads
by the token finds each text whole and nothing else. A judge is a language model and may still be talked into something: that
is why its reply has to carry another secret of the same request (see `verdicts`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

_FIRST = re.compile(r"^<<<([0-9a-f]{32}) [a-z]+ begins>>>$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """The markers of one request."""

    token: str

    @classmethod
    def around(cls, *texts: str, secret: bytes | None = None) -> Fence:
        """A fence that none of these texts contains: with a secret the same for the same texts, else a fresh one."""
        turn = 0
        token = unguessable(16, f"fence {turn}", texts, secret)
        while any(token in text for text in texts):
            turn += 1
            token = unguessable(16, f"fence {turn}", texts, secret)
        return cls(token)

    def put(self, label: str, text: str) -> str:
        """The text between its markers."""
        return f"<<<{self.token} {label} begins>>>\n{text}\n<<<{self.token} {label} ends>>>"


def fenced_texts(request: str) -> dict[str, str]:
    """Label -> text of a request that was written with a fence; empty where there is none.

    The first marker is the request's own, because requests put nothing of a stranger before it.
    """
    first = _FIRST.search(request)
    if first is None:
        return {}
    token = first[1]
    whole = re.compile(rf"<<<{token} ([a-z]+) begins>>>\n(.*?)\n<<<{token} \1 ends>>>", re.DOTALL)
    return {found[1]: found[2] for found in whole.finditer(request, first.start())}


def unguessable(size_bytes: int, purpose: str, texts: Iterable[str], secret: bytes | None) -> str:
    """Hex digits that whoever wrote the texts cannot know: of the secret and the texts, or of nothing but chance."""
    if secret is None:
        return secrets.token_hex(size_bytes)
    digest = hmac.new(secret, purpose.encode() + b"\n", hashlib.sha256)
    for text in texts:
        part = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[: 2 * size_bytes]
