"""What environments say to the episodes of a unit, in whatever order they say it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from preceptor_rollout.episodes import Episode
from preceptor_rollout.outcomes import Reply

TOGETHER_S = 0.2
"""Episodes whose environments answer within this time of each other are drawn together; a slower one holds nobody up longer."""


class Answers:
    """Those that are awaited."""

    def __init__(self) -> None:
        self._awaited: dict[asyncio.Task[Reply | None], Episode] = {}

    def __bool__(self) -> bool:
        """Whether somebody is still to answer."""
        return bool(self._awaited)

    def ask(self, episodes: Iterable[Episode]) -> None:
        """Puts the newest reply of each before its environment."""
        for episode in episodes:
            self._awaited[asyncio.create_task(episode.answer(), name="environment")] = episode

    async def some(self) -> list[tuple[Episode, Reply | None]]:
        """The next ones that have been answered, at least one; a reply where the rollout ends with it."""
        await asyncio.wait(self._awaited, timeout=TOGETHER_S)
        await asyncio.wait(self._awaited, return_when=asyncio.FIRST_COMPLETED)
        return self.there()

    def there(self) -> list[tuple[Episode, Reply | None]]:
        """Those that have been answered by now."""
        done = [task for task in self._awaited if task.done()]
        return [(self._awaited.pop(task), task.result()) for task in done]

    async def leave(self) -> None:
        """Nobody waits any more."""
        for task in self._awaited:
            task.cancel()
        if self._awaited:
            await asyncio.wait(self._awaited)
