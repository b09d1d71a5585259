"""Text of strangers inside a request, marked so that it cannot pass for the request itself.

Every request draws a token of its own. A text can imitate the shape of a marker, but not the token, so whoever reads by the
token finds each text whole and nothing else. A judge is a language model and may still be talked into something: that is why
its reply has to carry another secret of the same request (see `verdicts`).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

_FIRST = re.compile(r"^<<<([0-9a-f]{32}) [a-z]+ begins>>>$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """The markers of one request."""

    token: str

    @classmethod
    def around(cls, *texts: str) -> Fence:
        """A fresh fence that none of these texts contains."""
        token = secrets.token_hex(16)
        while any(token in text for text in texts):
            token = secrets.token_hex(16)
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
