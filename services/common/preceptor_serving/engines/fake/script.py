"""Staged failures and modelled time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from preceptor.errors import Corrupt
from preceptor_serving.engines.fake.options import FakeOptions
from preceptor_serving.engines.protocol import ScoreItem

Sleep = Callable[[float], None]


def die() -> None:
    """As the kernel would kill it: no farewell, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


class Script:
    """Plays what the options say, in the order in which calls arrive."""

    def __init__(self, options: FakeOptions, sleep: Sleep = time.sleep, die: Callable[[], None] = die) -> None:
        self._options = options
        self._sleep = sleep
        self._die = die
        self._calls = 0

    def before_call(self, items: Sequence[ScoreItem]) -> None:
        """Dies, hangs or raises where the script says so."""
        self._calls += 1
        options = self._options
        if self._calls == options.crash_on_call or _has(items, options.crash_token):
            self._die()
        if _has(items, options.hang_token):
            while True:
                self._sleep(3600.0)
        if _has(items, options.defect_token):
            raise RuntimeError("the staged defect")

    def refusal(self, item: ScoreItem) -> Corrupt | None:
        """The staged error of one item."""
        if _has([item], self._options.refuse_token):
            return Corrupt("the staged refusal", field="sequence", value=self._options.refuse_token)
        return None

    def spend(self, tokens: int, rows: int) -> tuple[float, float]:
        """Sleeps as long as a model of this speed would work; (prefill_s, readout_s)."""
        options = self._options
        prefill_s = tokens / options.tokens_per_s if options.tokens_per_s else 0.0
        readout_s = rows / options.rows_per_s if options.rows_per_s else 0.0
        if prefill_s + readout_s:
            self._sleep(prefill_s + readout_s)
        return prefill_s, readout_s


def _has(items: Sequence[ScoreItem], token: int | None) -> bool:
    return token is not None and any((item.sequence.ids == token).any() for item in items)
