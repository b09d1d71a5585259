"""The model behind the stand-in: prompts to greedy answers, those that wait at the same time in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from preceptor_serving.models.load import load_causal_lm, load_tokenizer, max_tokens

BATCH_PROMPTS = 32


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, and what it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finished: bool  # it ended by itself


@dataclass(slots=True)
class _Waiting:
    ids: tuple[int, ...]
    limit_tokens: int
    written: asyncio.Future[Written]


class Writer:
    """Made inside an event loop; the model runs in one thread of its own."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._model = load_causal_lm(folder, "f32", "cpu")
        self._longest = max_tokens(self._model.config, None)
        ends = self._model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())
        self._thread = ThreadPoolExecutor(1, "writer", torch.set_num_threads, (threads,))
        self._waiting: list[_Waiting] = []
        self._loop: asyncio.Task[None] | None = None

    def render(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """A conversation, with the opening of the answer."""
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    async def write(self, ids: tuple[int, ...], limit_tokens: int) -> Written:
        """The greedy answer."""
        limit_tokens = min(limit_tokens, self._longest - len(ids))
        if limit_tokens < 1 or not ids:
            return Written("", len(ids), 0, finished=False)
        one = _Waiting(ids, limit_tokens, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._work(), name="stand-in-writer")
        return await one.written

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        """Until nobody waits; prompts of one length go together, so nothing is padded."""
        while self._waiting:
            waiting = sorted(self._waiting, key=_size)
            self._waiting = []
            for _, same in groupby(waiting, _size):
                await self._write_some(list(same))

    async def _write_some(self, some: Sequence[_Waiting]) -> None:
        for start in range(0, len(some), BATCH_PROMPTS):
            batch = some[start : start + BATCH_PROMPTS]
            ids = [list(one.ids) for one in batch]
            work = asyncio.get_running_loop().run_in_executor(self._thread, self._greedy, ids, batch[0].limit_tokens)
            try:
                rows = await work
            except Exception as error:
                for one in batch:
                    _fail(one, error)
            else:
                for one, row in zip(batch, rows, strict=True):
                    self._settle(one, row)

    def _settle(self, one: _Waiting, row: list[int]) -> None:
        if not one.written.done():
            finished = bool(row) and row[-1] in self._ends
            text = self._tokenizer.decode(row, skip_special_tokens=True)
            one.written.set_result(Written(text, len(one.ids), len(row), finished))

    @torch.no_grad()
    def _greedy(self, prompts: Sequence[list[int]], limit_tokens: int) -> list[list[int]]:
        """The most likely next token, again and again; each row ends with its end-of-sequence token where one came."""
        ids, past = torch.tensor(prompts), None
        rows: list[list[int]] = [[] for _ in prompts]
        still = set(range(len(prompts)))
        for _ in range(limit_tokens):
            out: Any = self._model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, token = out.past_key_values, out.logits[:, -1].argmax(-1)
            for row in list(still):
                rows[row].append(int(token[row]))
                if rows[row][-1] in self._ends:
                    still.discard(row)
            if not still:
                break
            ids = token[:, None]
        return rows


def _size(one: _Waiting) -> tuple[int, int]:
    return len(one.ids), one.limit_tokens


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.written.done():
        one.written.set_exception(error)
