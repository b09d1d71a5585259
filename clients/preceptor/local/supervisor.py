"""Keeps a small set of processes alive on one machine: start in stages, restart with backoff, stop in reverse.

A child that dies is started again, each time after a longer pause. One that has died more often than its budget allows within a
window is given up: the supervisor stops everything and raises one error that names it and shows its last lines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from preceptor.errors import Unavailable
from preceptor.local.child import Child, ChildSpec, spawn

EventKind = Literal["starting", "ready", "died", "restarting", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one child, for whoever shows progress."""

    kind: EventKind
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most `deaths` within `window_s`; the pause doubles with each of them."""

    deaths: int = 5
    window_s: float = 120.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0

    def pause_s(self, deaths: int) -> float:
        return min(self.longest_pause_s, self.first_pause_s * 2.0 ** (deaths - 1))


Stage = Sequence[ChildSpec]


class Supervisor:
    """Use as `async with Supervisor(stages) as supervisor: await supervisor.watch()`."""

    def __init__(
        self, stages: Sequence[Stage], policy: RestartPolicy | None = None, on_event: Callable[[Event], None] | None = None
    ) -> None:
        self._stages = stages
        self._policy = policy or RestartPolicy()
        self._on_event = on_event
        self._children: dict[str, Child] = {}
        self._deaths: dict[str, deque[float]] = {spec.name: deque() for stage in stages for spec in stage}
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Supervisor:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Every child of a stage is ready before the next stage starts."""
        for stage in self._stages:
            await asyncio.gather(*(self._start_one(spec) for spec in stage))
            self._keepers += [asyncio.create_task(self._keep(spec), name=f"keep-{spec.name}") for spec in stage]

    async def watch(self) -> None:
        """Returns never; raises `Unavailable` when a child is given up."""
        done, _pending = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_EXCEPTION)
        for keeper in done:
            keeper.result()

    async def stop(self) -> None:
        """Stops the stages in reverse order; may be called twice."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        for stage in reversed(self._stages):
            await asyncio.gather(*(self._stop_one(spec) for spec in stage if spec.name in self._children))

    def pid(self, name: str) -> int:
        """Process id of a child as it runs now."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        """How often it died within the window."""
        return len(self._deaths[name])

    async def _start_one(self, spec: ChildSpec) -> None:
        self._tell("starting", spec)
        child = self._children[spec.name] = await spawn(spec)
        await child.wait_ready()
        self._tell("ready", spec, f"pid {child.pid}")

    async def _keep(self, spec: ChildSpec) -> None:
        while True:
            code = await self._children[spec.name].process.wait()
            self._tell("died", spec, f"code {code}")
            await self._revive(spec, code)

    async def _revive(self, spec: ChildSpec, code: int) -> None:
        """Starts it again until it is ready; a start that fails is a death like any other."""
        while True:
            deaths = self._count_death(spec)
            if deaths > self._policy.deaths:
                raise self._given_up(spec, deaths, code)
            await asyncio.sleep(self._policy.pause_s(deaths))
            self._tell("restarting", spec, f"death {deaths} of {self._policy.deaths} in {self._policy.window_s:g} s")
            try:
                await self._start_one(spec)
            except Unavailable:
                code = await self._children[spec.name].stop()
                continue
            return

    def _count_death(self, spec: ChildSpec) -> int:
        now_s = asyncio.get_running_loop().time()
        deaths = self._deaths[spec.name]
        deaths.append(now_s)
        while deaths[0] < now_s - self._policy.window_s:
            deaths.popleft()
        return len(deaths)

    def _given_up(self, spec: ChildSpec, deaths: int, code: int) -> Unavailable:
        return Unavailable(
            f"{spec.name} died {deaths} times within {self._policy.window_s:g} s, last with code {code}; giving up",
            field=spec.name,
            value=deaths,
            limit=self._policy.deaths,
            hint=self._children[spec.name].tail(),
        )

    async def _stop_one(self, spec: ChildSpec) -> None:
        self._tell("stopping", spec)
        code = await self._children.pop(spec.name).stop()
        self._tell("stopped", spec, f"code {code}")

    def _tell(self, kind: EventKind, spec: ChildSpec, detail: str = "") -> None:
        if self._on_event is not None:
            self._on_event(Event(kind, spec.name, detail))
