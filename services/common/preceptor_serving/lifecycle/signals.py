"""SIGTERM and SIGINT: the first asks for an ordered stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals(on_first: Callable[[str], None], exit_now: Callable[[int], object] = os._exit) -> Generator[None]:
    """While open, the first stop signal calls `on_first` with its name; any later one exits with 128 + its number.

    Engine processes need no farewell on that path: each dies with its parent.
    """
    loop = asyncio.get_running_loop()
    seen: list[signal.Signals] = []

    def received(number: signal.Signals) -> None:
        seen.append(number)
        if len(seen) == 1:
            on_first(number.name)
        else:
            exit_now(128 + number)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
