"""Which of several addresses serves a teacher: each is asked for its names once, when a name is first needed.

Replicas of one teacher are no case for this: they share one DNS name, over which gRPC spreads the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from preceptor.errors import ConfigurationError, Conflict, NotFound, PreceptorError, Unavailable
from preceptor.suggest import did_you_mean

ASK_S = 5.0  # one service that does not answer holds up no other

NamesAt = Callable[[str, float], Awaitable[Collection[str]]]
"""Address and deadline to the names and aliases of the teachers there."""


def addresses_in(text: str) -> list[str]:
    """The parts of `A:1,B:2`; an address of one service is a list of one."""
    found = [part.strip() for part in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        limit = "HOST:PORT, or several different ones separated by commas"
        raise ConfigurationError("this is no list of addresses", field="client.teacher", value=text, limit=limit)
    return found


class Routes:
    """Names to addresses, as far as they were needed."""

    def __init__(self, addresses: Sequence[str], names_at: NamesAt) -> None:
        self.addresses = tuple(addresses)
        self._names_at = names_at
        self._known: dict[str, str] = {}

    async def address_of(self, teacher: str, deadline_s: float) -> str:
        """Where that teacher is. `NotFound` where nobody has it; `Unavailable` while somebody who might does not answer."""
        if len(self.addresses) == 1:
            return self.addresses[0]
        if teacher not in self._known:
            await self._find(teacher, min(deadline_s, ASK_S))
        return self._known[teacher]

    async def _find(self, teacher: str, deadline_s: float) -> None:
        asked = (self._names_at(address, deadline_s) for address in self.addresses)
        answers = dict(zip(self.addresses, await asyncio.gather(*asked, return_exceptions=True), strict=True))
        silent: dict[str, PreceptorError] = {}
        for address, names in answers.items():
            if isinstance(names, PreceptorError):
                silent[address] = names
            elif isinstance(names, BaseException):
                raise names
            else:
                self._note(address, names)
        if teacher not in self._known:
            raise _missing(teacher, self._known, silent)

    def _note(self, address: str, names: Collection[str]) -> None:
        for name in names:
            other = self._known.setdefault(name, address)
            if other != address:
                raise Conflict(
                    f"teacher {name} is at {other} and at {address}",
                    field="client.teacher",
                    value=",".join(self.addresses),
                    limit="one address for each teacher",
                    hint="give replicas one DNS name, and other teachers other names",
                )


def _missing(teacher: str, known: Collection[str], silent: dict[str, PreceptorError]) -> PreceptorError:
    if not silent:
        hint = did_you_mean(teacher, sorted(known))
        return NotFound(f"there is no teacher {teacher!r}", field="teacher.teacher", value=teacher, hint=hint)
    address, why = next(iter(silent.items()))
    if not why.retryable:
        return why
    told = f"no answering service has a teacher {teacher!r}, and {', '.join(silent)} did not answer: {why.message}"
    return Unavailable(told, field="client.teacher", value=address, retry_after_s=why.retry_after_s)
