"""One supervised process: how it is started, when it is ready, what its last words were."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from preceptor.errors import Unavailable

POLL_S = 0.1
TAIL_LINES = 12
TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep alive. `ready` answers whether it can be used, and never raises for "not yet"."""

    name: str
    command: tuple[str, ...]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    ready_timeout_s: float = 120.0
    stop_grace_s: float = 35.0


class Child:
    """A running process of a spec."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def wait_ready(self) -> None:
        """Returns when it can be used; `Unavailable` with its last lines when it dies first or takes too long."""
        deadline_s = asyncio.get_running_loop().time() + self.spec.ready_timeout_s
        while not await self.spec.ready():
            if not self.alive:
                raise Unavailable(
                    f"{self.spec.name} ended with code {self.process.returncode} before it was ready", hint=self.tail()
                )
            if asyncio.get_running_loop().time() > deadline_s:
                raise Unavailable(f"{self.spec.name} was not ready after {self.spec.ready_timeout_s:g} s", hint=self.tail())
            await asyncio.sleep(POLL_S)

    async def stop(self) -> int:
        """Its exit code: SIGTERM, and SIGKILL when its grace is over."""
        if self.alive:
            self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), self.spec.stop_grace_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            return await self.process.wait()

    def tail(self) -> str:
        """The end of its log, and where the rest is."""
        return f"{self.spec.log}:\n{last_lines(self.spec.log)}"

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.process.send_signal(number)


async def spawn(spec: ChildSpec) -> Child:
    """Starts the process on a leash, with its output appended to its log."""
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    leash = (sys.executable, "-m", "preceptor.local.leash", str(os.getpid()))
    with spec.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *leash,
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **spec.env},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops them in order
        )
    return Child(spec, process)


def last_lines(path: Path) -> str:
    """The last lines of a log, as text."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError as error:
        return f"(no log: {error})"
