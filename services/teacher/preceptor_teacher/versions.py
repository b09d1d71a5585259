"""The versions of one teacher: what the operator serves, and beside it what runs have published, as far as memory goes.

    unknown ──find──▶ held ──another one needs the room──▶ put away ──a task names it──▶ held

A version is named exactly or not at all: `latest` stays the operator's, so no run changes what another one is taught by. What
was put away, or was lost with the engine's process, is read again from the same immutable folder. The one that was used longest
ago makes room; one that is pinned, or that is being scored under, never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from preceptor.errors import DeadlineExceeded, Exhausted, VersionGone
from preceptor.logs import get_logger
from preceptor.types import ModelInfo, ModelRef
from preceptor_serving.engine_host.scoring import LOAD_TIMEOUT_S, ScoringClient
from preceptor_serving.run_owner import check_owner
from preceptor_serving.weights import find_version
from preceptor_teacher.boundary import choose_version

KNOWN = 1024
log = get_logger("preceptor.weights")


@dataclass(slots=True)
class Held:
    """One published version."""

    info: ModelInfo
    is_loaded: bool = True
    is_pinned: bool = False
    users: int = 0  # engine calls that score under it now


@dataclass(frozen=True, slots=True)
class Tally:
    """How many versions are in memory, the operator's included, and how many of the others are pinned."""

    held: int
    pinned: int


@dataclass(slots=True)
class Versions:
    """Loads one version at a time; scoring under those that are loaded does not wait for it. `roots`: where runs publish."""

    client: ScoringClient
    roots: tuple[Path, ...] = ()
    wait_s: float = LOAD_TIMEOUT_S
    own: tuple[ModelInfo, ...] = ()
    _held: dict[ModelRef, Held] = field(default_factory=dict[ModelRef, Held])  # used longest ago first
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Asks the engine what the operator serves."""
        self.own = await self.client.describe()

    @property
    def infos(self) -> tuple[ModelInfo, ...]:
        """The operator's first, then every version that is known, the one used last first."""
        return (*self.own, *(one.info for one in reversed(self._held.values())))

    @property
    def tally(self) -> Tally:
        held = list(self._held.values())
        return Tally(len(self.own) + sum(one.is_loaded for one in held), sum(one.is_pinned for one in held))

    async def find(self, ref: ModelRef | None, tenant: str | None) -> ModelInfo:
        """What answers for a choice: the operator's newest, or exactly the named version, loaded where it was not known.

        A run's versions answer to the tenant whose run it is; `tenant` is None where everybody is the operator.
        """
        if ref is None or not ref.run or not self.roots or any(info.model == ref for info in self.own):
            return choose_version(ref, self.own)
        if tenant is not None:
            check_owner(self.roots, ref.run, tenant)
        return (await self._loaded(ref)).info

    @asynccontextmanager
    async def used(self, ref: ModelRef) -> AsyncGenerator[None]:
        """The engine holds this version for the length of the block."""
        if any(info.model == ref for info in self.own):
            yield
            return
        held = await self._loaded(ref)
        held.users += 1
        self._held[ref] = self._held.pop(ref, held)
        try:
            yield
        finally:
            held.users -= 1
            self._released.set()

    def lost(self, ref: ModelRef) -> None:
        """The engine says that it does not hold this one: its process is a new one."""
        if ref in self._held:
            self._held[ref].is_loaded = False

    async def pin(self, ref: ModelRef, *, pinned: bool) -> None:
        """Whether this version may make room for others."""
        (await self._loaded(ref)).is_pinned = pinned
        self._released.set()

    async def drop(self, ref: ModelRef) -> None:
        """Forgets a version after what is scored under it has ended; an unknown one changes nothing."""
        async with self._loading:
            held = self._held.get(ref)
            if held is None:
                return
            await self._until(lambda: not held.users, f"step {ref.step} is being scored under")
            await self._put_away(ref)
            del self._held[ref]

    # ---------------------------------------------------------------- loading

    async def _loaded(self, ref: ModelRef) -> Held:
        held = self._held.get(ref)
        if held is not None and held.is_loaded:
            return held
        async with self._loading:
            held = self._held.get(ref)
            if held is None or not held.is_loaded:
                await self._load(ref)
            return self._held[ref]

    async def _load(self, ref: ModelRef) -> None:
        folder = await asyncio.to_thread(self._folder, ref)
        while True:
            try:
                await self.client.load_version(ref, str(folder))
                break
            except Exhausted as error:
                await self._make_room(error)
        infos = {info.model: info for info in await self.client.describe()}
        held = self._held.pop(ref, None) or Held(infos[ref])
        held.is_loaded = True
        self._held[ref] = held
        self._forget_some()
        log.info("version_loaded", run=ref.run, epoch=ref.epoch, step=ref.step, model=ref.name)

    def _folder(self, ref: ModelRef) -> Path:
        try:
            return find_version(self.roots, ref).folder
        except VersionGone as error:  # where an operator's folders are is nobody else's business
            log.info("version_gone", error=error.message)
            choose_version(ref, self.own)
            raise

    async def _make_room(self, error: Exhausted) -> None:
        """Puts the version away that was used longest ago; waits where all that could go are in use."""
        if not any(one.is_loaded and not one.is_pinned for one in self._held.values()):
            error.hint = error.hint or "unpin or drop a version, or give the teacher room for more (max_versions)"
            raise error
        await self._until(lambda: self._oldest() is not None, "every version is being scored under")
        if (oldest := self._oldest()) is not None:
            await self._put_away(oldest)

    def _oldest(self) -> ModelRef | None:
        free = (ref for ref, one in self._held.items() if one.is_loaded and not one.is_pinned and not one.users)
        return next(free, None)

    async def _put_away(self, ref: ModelRef) -> None:
        self._held[ref].is_loaded = False  # before the call: whoever needs it from now on loads it again
        await self.client.drop_version(ref)

    def _forget_some(self) -> None:
        for ref in [ref for ref, one in self._held.items() if not one.is_loaded][:-KNOWN]:
            del self._held[ref]

    async def _until(self, holds: Callable[[], bool], why: str) -> None:
        try:
            async with asyncio.timeout(self.wait_s):
                while not holds():
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise DeadlineExceeded(why, field="model", limit=f"{self.wait_s:g} s") from None
