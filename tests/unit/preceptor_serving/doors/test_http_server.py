"""The HTTP door is open when its start returns."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI

from preceptor_serving.doors.http_server import HttpDoor


async def test_a_connection_is_taken_as_soon_as_the_door_has_started() -> None:
    door = HttpDoor(FastAPI(), "127.0.0.1", 0, 100)
    await door.start()
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.close()
    await door.stop()


async def test_a_server_that_cannot_listen_says_so_at_the_start() -> None:
    door = HttpDoor(FastAPI(), "127.0.0.1", 0, 100)
    door._socket.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await door.start()
