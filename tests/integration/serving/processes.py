"""A service in a process of its own, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

START_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 30.0


def rest_client() -> httpx.AsyncClient:
    """Without TLS, whose setup takes longer than most of these tests."""
    return httpx.AsyncClient(verify=False, timeout=30)


@dataclass
class ServiceProcess:
    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def event(self, name: str) -> dict[str, Any] | None:
        return next((event for event in self.events if event.get("event") == name), None)

    async def seen(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first logged event of that name and with those fields."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                for event in self.events:
                    if event.get("event") == name and all(event.get(key) == value for key, value in fields.items()):
                        return event
                if self.reader.done():
                    raise AssertionError("".join(self.text))
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        await self.seen("state", state="ready")

    @property
    def grpc_port(self) -> int:
        return self.event("doors_open")["grpc_port"]

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.event('doors_open')['rest_port']}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(EXIT_TIMEOUT_S):
            code = await self.process.wait()
            await self.reader
        return code

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    async def in_flight(self, count: int) -> None:
        """Returns once so many requests are being answered."""
        async with rest_client() as client, asyncio.timeout(START_TIMEOUT_S):
            while (await client.get(f"{self.rest_url}/readyz")).json()["in_flight"] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _read(self) -> None:
        async for line in self.process.stderr:
            self.text.append(line.decode())
            try:
                self.events.append(json.loads(line))
            except ValueError:
                continue


@asynccontextmanager
async def service_process(
    engine: dict[str, Any] | None = None, policy: dict[str, float] | None = None, **settings: Any
) -> AsyncGenerator[ServiceProcess]:
    """The smallest teacher, started, with its doors open."""
    config = {"settings": {"grpc_port": 0, "rest_port": 0, **settings}, "engine": engine or {}, "policy": policy}
    async with module_process("tests.integration.serving.score_service", json.dumps(config)) as service:
        yield service


@asynccontextmanager
async def module_process(module: str, *arguments: str, **environ: str) -> AsyncGenerator[ServiceProcess]:
    """`python -m module`, a service that logs JSON, with its doors open; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), stderr=asyncio.subprocess.PIPE, env={**os.environ, **environ}
    )
    service = ServiceProcess(process)
    service.reader = asyncio.create_task(service._read())
    try:
        await service.seen("doors_open")
        yield service
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await service.reader
