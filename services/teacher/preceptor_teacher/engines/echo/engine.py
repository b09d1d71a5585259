"""The calls of the `echo` engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from preceptor.errors import ConfigurationError, PreceptorError, Unsupported, VersionGone
from preceptor.types import Capabilities, Grade, ModelInfo, ModelRef, Receipt, Scored, TimeSplit
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.engines.plan import plan_item
from preceptor_serving.engines.protocol import Outcome, ScoreItem
from preceptor_serving.models.load import load_tokenizer
from preceptor_teacher.api.line import Line
from preceptor_teacher.api.retries import RetryBudget
from preceptor_teacher.engines.echo.dialects import DIALECTS, Position
from preceptor_teacher.engines.echo.options import EchoOptions
from preceptor_teacher.engines.echo.rows import rows_of

ENGINE = "echo"
NUMERICS_VERSION = "1"
RETRIES_S = 60.0
MOST_REPLY_BYTES = 128 << 20  # lists of the longest sequence, as JSON
TOPS = (20, 5, 1, 0)  # what servers admit at most, the common bounds
PROBE_TOKENS = 4


class EchoEngine:
    """An `Engine` over a server. Loaded once the server has shown that it scores tokens that it is given.

    `transport` replaces the network in tests.
    """

    def __init__(self, options: EchoOptions, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._options, self._dialect = options, DIALECTS[options.dialect]
        self._loop = asyncio.Runner()
        self._line, self._room = self._loop.run(self._opened(transport))
        try:
            self._info = self._described(load_tokenizer(options.folder))
        except BaseException:
            self.close()
            raise

    def describe(self) -> tuple[ModelInfo, ...]:
        return (self._info,)

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        if version is not None and version != self._info.model:
            raise VersionGone("this version is not loaded", field="teacher.exact", value=version.step)
        return self._loop.run(self._score_all(items))

    def load_version(self, version: ModelRef, folder: str) -> None:
        raise Unsupported("the server's weights are its own", field="version", value=version.step, limit="not served")

    def drop_version(self, version: ModelRef) -> None:
        raise Unsupported("the server's weights are its own", field="version", value=version.step, limit="not served")

    def close(self) -> None:
        self._loop.run(self._line.close())
        self._loop.close()

    # ---------------------------------------------------------------- scoring

    async def _opened(self, transport: httpx.AsyncBaseTransport | None) -> tuple[Line, asyncio.Semaphore]:
        api = self._options.api
        return Line(api, api.key(), transport, MOST_REPLY_BYTES), asyncio.Semaphore(self._options.max_concurrency)

    async def _score_all(self, items: Sequence[ScoreItem]) -> list[Outcome]:
        return list(await asyncio.gather(*map(self._score_one, items)))

    async def _score_one(self, item: ScoreItem) -> Outcome:
        began_s = time.perf_counter()
        try:
            plan = plan_item(item, self._info)
            _check_temperature(item)
            asked = item.sequence.ids[: plan.prefix_tokens[-1] + 1].tolist() if len(plan) else []
            positions = await self._positions(asked, item.want.topk) if asked else []
        except PreceptorError as error:
            return error
        rows = rows_of(positions, plan, item.want, self._info.tokenizer_size)
        took = TimeSplit(prefill_s=time.perf_counter() - began_s)
        return Scored(rows, replace(Receipt.of(self._info), tokens_computed=len(asked), time=took))

    async def _positions(self, ids: Sequence[int], topk: int) -> list[Position]:
        """One for each token; a failure that may pass is tried again within the budget of attempts."""
        body = json.dumps(self._dialect.body(self._options.model, ids, topk)).encode()
        budget = RetryBudget(self._options.max_attempts, RETRIES_S)
        async with self._room:
            while True:
                try:
                    return self._dialect.read(await self._line.read(self._dialect.path, body), ids)
                except PreceptorError as error:
                    await asyncio.sleep(budget.next_pause_s(error))

    # ---------------------------------------------------------------- what it is

    def _described(self, tokenizer: Any) -> ModelInfo:
        options, size, digest = self._options, tokenizer_size(tokenizer), tokenizer_sha256(tokenizer)
        topk = self._loop.run(self._listed_ids(min(size, PROBE_TOKENS)))
        return ModelInfo(
            model=ModelRef(options.name, manifest_sha256=_place_sha256(options, digest)),
            tokenizer_sha256=digest,
            template_sha256=template_sha256(tokenizer),
            tokenizer_size=size,
            head_rows=size,
            dtype="",
            engine=ENGINE,
            engine_version=f"{options.dialect} {options.model}",
            numerics_version=NUMERICS_VERSION,
            capabilities=Capabilities(
                sampled=True,
                max_topk=min(topk, size),
                grades=tuple(Grade),
                max_sequence_tokens=options.max_sequence_tokens,
                echo_logprobs=True,
            ),
        )

    async def _listed_ids(self, tokens: int) -> int:
        """How many ids the server lists at a given token; raises where it does not score given tokens at all."""
        most = self._options.max_topk if self._dialect.lists_ids else 0
        refused: PreceptorError | None = None
        for topk in dict.fromkeys((most, *(one for one in TOPS if one < most))):
            try:
                found = (await self._positions(range(tokens), topk))[1:]
            except ConfigurationError as error:  # refused as it was asked: less may be served
                refused = error
                continue
            if not any(math.isnan(one.own) for one in found):
                return min(topk, *(len(one.top or {}) for one in found))
        raise refused or ConfigurationError(
            "the server gives no log-probabilities of tokens that it is given",
            field="dialect",
            value=self._options.dialect,
            limit=" | ".join(DIALECTS),
            hint="a teacher that only writes can judge: engine api",
        )


def _check_temperature(item: ScoreItem) -> None:
    """Servers leave these values as the model gives them, whatever temperature is asked for."""
    if item.want.temperature != 1:
        raise Unsupported(
            "want.temperature: this engine's server scores at 1",
            field="want.temperature",
            value=item.want.temperature,
            limit="1",
        )


def _place_sha256(options: EchoOptions, tokenizer_digest: bytes) -> bytes:
    """Stands for weights that nobody here can digest: the server, its model's name and the tokenizer."""
    where = json.dumps(["echo", options.base_url, options.model])
    return hashlib.sha256(where.encode() + tokenizer_digest).digest()
