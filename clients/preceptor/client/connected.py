"""What the asynchronous clients share: one connection, closed with them."""

from __future__ import annotations

from typing import Self

from preceptor.client.channel import Connection, Target


class Connected:
    """Made and used inside one event loop. `target` is an address, or a `Target` with key and deadline."""

    def __init__(self, target: str | Target) -> None:
        self.connection = Connection(Target(target) if isinstance(target, str) else target)

    async def close(self) -> None:
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
