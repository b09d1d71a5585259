"""Stopping in order: each stage has a name, a deadline, and runs whatever the stages before it did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from preceptor.logs import get_logger

log = get_logger("preceptor.lifecycle")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a shutdown."""

    name: str
    run: Callable[[], Awaitable[object]]
    timeout_s: float


async def run_stages(stages: Iterable[Stage]) -> list[str]:
    """The names of the stages that failed or ran out of time; empty after a clean stop."""
    return [stage.name for stage in stages if not await _run(stage)]


async def _run(stage: Stage) -> bool:
    began = time.monotonic()
    outcome = "done"
    try:
        async with asyncio.timeout(stage.timeout_s):
            await stage.run()
    except TimeoutError:
        outcome = "out of time"
    except Exception as error:
        outcome = f"failed: {error}"
    log.info("drain_stage", stage=stage.name, outcome=outcome, took_s=round(time.monotonic() - began, 3))
    return outcome == "done"
