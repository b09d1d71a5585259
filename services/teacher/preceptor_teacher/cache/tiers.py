"""Both tiers as one: what is looked up goes through memory to disk, what is kept is in memory at once and on disk soon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preceptor.config.settings import TeacherSettings
from preceptor.errors import ConfigurationError
from preceptor.logs import get_logger
from preceptor.types import CacheTier
from preceptor_serving.durable import make_folder
from preceptor_teacher.cache.disk import DiskTier
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets, root_secret
from preceptor_teacher.cache.threads import DiskThread

MAX_UNWRITTEN_BYTES = 64 << 20
CLOSE_S = 10.0
IDLE_S = 5.0  # for what a thread has begun
log = get_logger("preceptor.cache")


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and the tier that had it."""

    value: bytes
    tier: CacheTier


class ScoreCache:
    """Used from one event loop; disk work runs in two threads of its own, so that no reader waits for a writer's sync."""

    def __init__(self, memory: MemoryTier, disk: DiskTier | None, secrets: TenantSecrets) -> None:
        self.memory, self.disk, self.secrets = memory, disk, secrets
        self.hits = {CacheTier.MEMORY: 0, CacheTier.DISK: 0}
        self.shared = 0
        self.misses = 0
        self.dropped = 0
        self._reader = DiskThread("score-cache-read")
        self._writer = DiskThread("score-cache-write")
        self._unwritten: dict[bytes, bytes] = {}
        self._unwritten_bytes = 0
        self._writing: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """What probes tell: the disk failed when it was last used."""
        return self.disk.trouble if self.disk else None

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, Found]:
        """The values that are known."""
        found = {key: Found(value, CacheTier.MEMORY) for key in keys if (value := self._in_memory(key)) is not None}
        missing = [key for key in keys if key not in found]
        if self.disk is not None and missing:
            for key, value in (await self._reader.run(self.disk.get_many, missing)).items():
                self.memory.put(key, value)
                found[key] = Found(value, CacheTier.DISK)
        return found

    def keep(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Remembers them. What the disk cannot take in time is left out there, and counted."""
        for key, value in entries:
            self.memory.put(key, value)
            if self.disk is None or key in self._unwritten:
                continue
            if self._unwritten_bytes + len(value) > MAX_UNWRITTEN_BYTES:
                self.dropped += 1
                continue
            self._unwritten[key] = value
            self._unwritten_bytes += len(value)
        if self._unwritten and self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="score-cache-write")

    async def flush(self) -> None:
        """Returns when everything that was kept so far is on disk."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Writes what is left, within a deadline. A disk that still hangs then is left open: closing it would wait for it."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
        except TimeoutError:
            self._unwritten.clear()
        idle = await self._idle_threads()
        self._reader.end()
        self._writer.end()
        if self.disk is not None and idle:
            self.disk.close()

    async def _idle_threads(self) -> bool:
        """True as soon as neither thread is at work on the disk; False where one still is at the deadline."""
        ends = [asyncio.ensure_future(thread.run(_nothing)) for thread in (self._reader, self._writer)]
        _, busy = await asyncio.wait(ends, timeout=IDLE_S)
        if busy:
            log.error("score_cache_disk_hangs", waited_s=IDLE_S)
        return not busy

    def _in_memory(self, key: bytes) -> bytes | None:
        return self._unwritten.get(key) or self.memory.get(key)

    async def _write_all(self) -> None:
        assert self.disk is not None, "nothing is unwritten without a disk"
        try:
            while self._unwritten:
                batch, self._unwritten = self._unwritten, {}
                await self._writer.run(self.disk.put_many, batch)
                self._unwritten_bytes -= sum(map(len, batch.values()))  # until then they take memory
        finally:
            self._writing, self._unwritten_bytes = None, sum(map(len, self._unwritten.values()))


def open_cache(settings: TeacherSettings) -> ScoreCache | None:
    """The cache that an operator has asked for; None where there is neither memory nor a folder for it."""
    folder = settings.score_cache_folder
    if folder is None and not settings.score_cache_memory_bytes:
        return None
    memory = MemoryTier(settings.score_cache_memory_bytes)
    if folder is None:
        return ScoreCache(memory, None, TenantSecrets(root_secret(None)))
    try:
        _own_folder(folder)
        secrets = TenantSecrets(root_secret(folder))
        return ScoreCache(memory, DiskTier.open(folder, settings.score_cache_disk_bytes), secrets)
    except OSError as error:
        raise ConfigurationError(
            f"the score cache's folder cannot be used: {error.strerror}", field="score_cache_folder", value=str(folder)
        ) from error


def _nothing() -> None:
    """Reaches a thread when it has done what came before."""


def _own_folder(folder: Path) -> None:
    if not folder.exists():
        make_folder(folder)
        folder.chmod(0o700)
