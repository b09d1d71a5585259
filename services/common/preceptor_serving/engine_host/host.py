"""Keeps one engine alive: starts its process, restarts it when it dies, and tells how it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from preceptor.errors import DeadlineExceeded, EngineFailed
from preceptor.logs import get_logger
from preceptor_serving.engine_host.channel import EngineSpec, only_reply
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.process import EngineProcess

OnHealth = Callable[[str | None], None]
log = get_logger("preceptor.engine_host")


def ignore_health(_: str | None) -> None:
    """For hosts that nobody watches."""


class EngineHost:
    """An `EngineChannel` whose engine runs in a child process. `on_health` hears why it is down, and None when it is up."""

    def __init__(self, spec: EngineSpec, policy: HostPolicy = HostPolicy(), on_health: OnHealth = ignore_health) -> None:  # noqa: B008
        self.spec, self.policy = spec, policy
        self.restarts = 0
        self.starting = False
        self._on_health = on_health
        self._process: EngineProcess | None = None
        self._up = asyncio.Event()
        self._why_down = "not started"
        self._failures = 0
        self._up_since = 0.0
        self._heard_at: float | None = None  # from the process that ended last
        self._keeper: asyncio.Task[None] | None = None

    @property
    def open_calls(self) -> int:
        """Calls that the engine is working on or has queued."""
        return self._process.open_calls if self._process else 0

    @property
    def pid(self) -> int | None:
        """The child's process id while it is up."""
        return self._process.pid if self._process else None

    @property
    def heard_s(self) -> float | None:
        """How long ago the engine's process last answered, heartbeats included; None before its first answer."""
        heard_at = self._process.heard_at if self._process else self._heard_at
        return None if heard_at is None else time.monotonic() - heard_at

    async def start(self) -> None:
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"engine-{self.spec.name}-keeper")

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        return only_reply([reply async for reply in self.stream(method, request, timeout_s=timeout_s)], method)

    async def stream(self, method: str, request: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        process = await self._ready_process(timeout_s)
        async with aclosing(process.stream(method, request)) as replies:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        reply = await anext(replies)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise DeadlineExceeded(f"engine {self.spec.name} did not answer within {timeout_s:g} s") from None
                yield reply

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        process, self._process = self._process, None
        self._up.clear()
        self._why_down = "stopped"
        if process is not None:
            await process.stop()

    async def _ready_process(self, timeout_s: float) -> EngineProcess:
        """The live process; a restart that is under way is waited for, briefly."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_s, self.policy.restart_wait_s)):
                await self._up.wait()
        if self._process is None:
            pause_s = self.policy.backoff_s(max(1, self._failures))
            raise EngineFailed(f"engine {self.spec.name} is down: {self._why_down}", retry_after_s=pause_s)
        return self._process

    async def _keep(self) -> None:
        """Restarts the engine whenever it ends, for as long as the host lives."""
        while True:
            if self._process is not None:
                await asyncio.shield(self._process.ended)
            await asyncio.sleep(self.policy.backoff_s(self._failures))
            self.restarts += 1
            try:
                await self._spawn()
            except Exception as error:  # a keeper that ends would leave the engine down for ever
                self._went_down(f"could not be restarted: {error}")

    async def _spawn(self) -> None:
        self.starting = True
        try:
            self._came_up(await EngineProcess.spawn(self.spec, self.policy))
        finally:
            self.starting = False

    def _came_up(self, process: EngineProcess) -> None:
        self._process = process
        self._up_since = asyncio.get_running_loop().time()
        self._up.set()
        process.ended.add_done_callback(lambda ended: self._ended(process, ended.result()))
        self._on_health(None)
        log.info("engine_up", engine=self.spec.name, pid=process.pid, restarts=self.restarts)

    def _ended(self, process: EngineProcess, why: str) -> None:
        """Runs before the callers that were waiting, so that none of them meets the dead process again."""
        if self._process is process:
            self._heard_at = process.heard_at
            lived_s = asyncio.get_running_loop().time() - self._up_since
            self._failures = 0 if lived_s > self.policy.stable_s else self._failures
            self._went_down(why)

    def _went_down(self, why: str) -> None:
        self._process = None
        self._up.clear()
        self._failures += 1
        self._why_down = why
        self._on_health(why)
        log.error("engine_down", engine=self.spec.name, why=why, failures=self._failures)
