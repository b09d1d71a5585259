"""A teacher of two fake models behind its REST door, and the float64 oracle of each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from preceptor.types import Sequence
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from tests.reference.score_oracle import F64, log_softmax
from tests.unit.preceptor_teacher.test_service import spec, teacher

SEEDS = {"fake": 0, "other": 7}
ERROR_NATS = 2e-6  # f32 against float64


@dataclass
class House:
    """The door, and what its numbers have to be."""

    http: httpx.AsyncClient

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def answer(self, path: str, **body: Any) -> Any:
        reply = await self.post(path, **body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def refused(self, path: str, **body: Any) -> dict[str, Any]:
        """The error of a request that has to be a 4xx."""
        reply = await self.post(path, **body)
        assert 400 <= reply.status_code < 500, (reply.status_code, reply.text)
        return reply.json()


@asynccontextmanager
async def house(**settings: Any) -> AsyncGenerator[House]:
    specs = [spec(name, ("default",) if name == "fake" else (), seed=seed) for name, seed in SEEDS.items()]
    async with (
        teacher(*specs, **settings) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.rest_port}", timeout=30) as http,
    ):
        yield House(http)


def distribution(ids: list[int], position: int, *, temperature: float = 1.0, name: str = "fake") -> F64:
    """All log-probabilities of the token at this position, given those before it."""
    model = FakeEngine(FakeOptions(name=name, seed=SEEDS[name])).model()
    return log_softmax(model.logits_after(np.asarray(ids[:position])).astype(np.float64), temperature)


def best(logprobs: F64, width: int) -> list[int]:
    """The most likely ids that the tokenizer has, ties by the lower one."""
    return np.argsort(-logprobs[: FakeOptions().tokenizer_size], kind="stable")[:width].tolist()


def whole(ids: list[int]) -> Sequence:
    """All of a prompt that anything predicts."""
    return Sequence.of(ids[:1], ids[1:])


def close(value: Any, truth: Any) -> bool:
    return abs(value - truth) <= ERROR_NATS * max(1.0, abs(truth))
