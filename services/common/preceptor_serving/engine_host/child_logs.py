"""The child's output, line by line, in the parent's log: its records, and whatever a C library or a crash prints."""

from __future__ import annotations

import asyncio

from preceptor.logs import get_logger
from preceptor_serving.engine_host.log_lines import parse_line

MAX_LINE_BYTES = 1 << 16
log = get_logger("preceptor.engine")


async def forward_lines(process: asyncio.subprocess.Process, engine: str) -> None:
    """In the parent, until the child closes its output."""
    if process.stdout is None:
        return
    while (line := await _next_line(process.stdout)) is not None:
        level, logger, message = parse_line(line.decode(errors="replace").rstrip())
        if message:
            log.log(level, message, engine=engine, engine_logger=logger, engine_pid=process.pid)


async def _next_line(stream: asyncio.StreamReader) -> bytes | None:
    """A line, or as much of it as fits."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial or None
    except asyncio.LimitOverrunError:
        return await stream.read(MAX_LINE_BYTES)
