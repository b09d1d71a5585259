"""Engines under test, behind one synchronous face: called directly, in a thread, or in a process of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from preceptor.types import ModelInfo, ModelRef
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.engine_host.scoring import ScoringClient
from preceptor_serving.engines.protocol import Outcome, ScoreItem
from tests.reference.score_oracle import Logits

T = TypeVar("T")
CALL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 240.0  # vLLM takes its time, more on a busy machine


class Face(Protocol):
    def describe(self) -> tuple[ModelInfo, ...]: ...
    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]: ...
    def load_version(self, version: ModelRef, folder: str) -> None: ...
    def drop_version(self, version: ModelRef) -> None: ...


@dataclass(frozen=True)
class Subject:
    """An engine, and what is known about it from elsewhere.

    `logits` is the oracle behind it; None skips comparisons with it. `noise_nats` is how far two correct answers of this
    engine may lie apart (0: bit-equal), `error_nats` how far it may be from the oracle. `new_version` is (version, folder)
    of weights that can be loaded beside the first ones, where the engine holds several.
    """

    face: Face
    logits: Logits | None
    noise_nats: float
    error_nats: float
    new_version: tuple[ModelRef, str] | None = None

    @property
    def info(self) -> ModelInfo:
        return self.face.describe()[0]

    def score(self, *items: ScoreItem) -> list[Outcome]:
        return self.face.score(items)


@contextmanager
def behind(make_channel: Callable[[], EngineChannel]) -> Generator[Face]:
    """The face of an engine behind a channel that lives in an event loop of another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)

    async def started() -> EngineChannel:
        channel = make_channel()
        await channel.start()
        return channel

    channel = run(started(), START_TIMEOUT_S)
    try:
        yield _ChannelFace(ScoringClient(channel), run)
    finally:
        run(channel.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CALL_TIMEOUT_S)
        loop.close()


class _ChannelFace:
    def __init__(self, client: ScoringClient, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._client, self._run = client, run

    def describe(self) -> tuple[ModelInfo, ...]:
        return self._run(self._client.describe())

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        return self._run(self._client.score(items, version, timeout_s=CALL_TIMEOUT_S))

    def load_version(self, version: ModelRef, folder: str) -> None:
        self._run(self._client.load_version(version, folder, timeout_s=CALL_TIMEOUT_S))

    def drop_version(self, version: ModelRef) -> None:
        self._run(self._client.drop_version(version))
