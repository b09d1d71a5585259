"""The model behind the stand-in: prompts to answers, those that wait at the same time in one batch."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preceptor_serving.models.load import load_causal_lm, load_tokenizer, max_tokens
from preceptor_serving.models.topk import topk_lowest_id

BATCH_PROMPTS = 32
MOST_TOP = 20
"""What providers give at most of the likeliest tokens."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How an answer is drawn. `top` None: its log-probabilities are not asked for."""

    temperature: float = 0.0
    seed: int | None = None
    top: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One token, its log-probability, and those of the likeliest."""

    text: str
    logprob: float | None  # None: nothing predicts the first token of a prompt
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, and what it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finished: bool  # it ended by itself
    steps: tuple[Step, ...] = ()  # where they were asked for; without the token that ends it


@dataclass(slots=True)
class _Waiting:
    ids: tuple[int, ...]
    limit_tokens: int
    drawing: Drawing
    written: asyncio.Future[Written]


GREEDY = Drawing()


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
        """The ids of a conversation, up to where the answer begins."""
        if self._tokenizer.chat_template is None:
            return self.encode("\n".join(message["content"] for message in messages))
        text = str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    @property
    def size(self) -> int:
        """Ids that the tokenizer has."""
        return len(self._tokenizer)

    async def write(self, ids: tuple[int, ...], limit_tokens: int, drawing: Drawing = GREEDY) -> Written:
        """The answer."""
        limit_tokens = min(limit_tokens, self._longest - len(ids))
        if limit_tokens < 1 or not ids:
            return Written("", len(ids), 0, finished=False)
        one = _Waiting(ids, limit_tokens, drawing, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._work(), name="stand-in-writer")
        return await one.written

    async def read(self, ids: tuple[int, ...], top: int) -> tuple[Step, ...]:
        """The log-probabilities of given tokens."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, ids[: self._longest], top)

    async def embed(self, ids: tuple[int, ...]) -> list[float]:
        """The mean of the model's last hidden states over the text, at length one; zeros of a text without tokens."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, ids[: self._longest])

    async def choose(self, ids: tuple[int, ...], texts: Sequence[str]) -> str:
        """The text that the model would write of these, greedily, token by token among those that are left."""
        options = [self.encode(text) for text in texts]
        chosen = await asyncio.get_running_loop().run_in_executor(self._thread, self._choose, ids, options)
        return texts[chosen]

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
            try:
                rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._draw, batch)
            except Exception as error:
                for one in batch:
                    _fail(one, error)
            else:
                for one, (ids, steps) in zip(batch, rows, strict=True):
                    self._settle(one, ids, steps)

    def _settle(self, one: _Waiting, row: list[int], steps: list[Step]) -> None:
        if not one.written.done():
            finished = bool(row) and row[-1] in self._ends
            kept = tuple(steps[: len(steps) - finished]) if steps else ()
            one.written.set_result(Written(self.text(row), len(one.ids), len(row), finished, kept))

    # ---------------------------------------------------------------- in the thread

    @torch.no_grad()
    def _draw(self, batch: Sequence[_Waiting]) -> list[tuple[list[int], list[Step]]]:
        """The next token, again and again; each row ends with its end-of-sequence token where one came."""
        ids, past = torch.tensor([one.ids for one in batch]), None
        dice = [_dice(one.drawing) for one in batch]
        rows: list[tuple[list[int], list[Step]]] = [([], []) for _ in batch]
        still = set(range(len(batch)))
        for _ in range(batch[0].limit_tokens):
            out: Any = self._model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, logits_nv = out.past_key_values, out.logits[:, -1]
            token_n = logits_nv.argmax(-1)
            for row in list(still):
                drawing = batch[row].drawing
                if drawing.temperature > 0:
                    chances_v = torch.softmax(logits_nv[row] / drawing.temperature, -1)
                    token_n[row] = torch.multinomial(chances_v, 1, generator=dice[row])[0]
                drawn, steps = rows[row]
                drawn.append(int(token_n[row]))
                if drawing.top is not None:
                    steps += self._steps(logits_nv[row : row + 1], token_n[row : row + 1], drawing.top)
                if drawn[-1] in self._ends:
                    still.discard(row)
            if not still:
                break
            ids = token_n[:, None]
        return rows

    @torch.no_grad()
    def _choose(self, ids: Sequence[int], options: Sequence[Sequence[int]]) -> int:
        """Index of the chosen one; no option may be the beginning of another."""
        left, given, at, past = list(range(len(options))), list(ids), 0, None
        while len(left) > 1:
            tokens = {options[one][at] for one in left}
            if len(tokens) == 1:
                given += tokens
            else:
                out: Any = self._model(input_ids=torch.tensor([given]), past_key_values=past, use_cache=True, logits_to_keep=1)
                past, logits_v = out.past_key_values, out.logits[0, -1]
                given = [max(tokens, key=lambda token: (float(logits_v[token]), -token))]
                left = [one for one in left if options[one][at] == given[0]]
            at += 1
        return left[0]

    @torch.no_grad()
    def _embed(self, ids: Sequence[int]) -> list[float]:
        if not ids:
            return [0.0] * self._model.config.hidden_size
        out: Any = self._model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        mean_h = out.hidden_states[-1][0].double().mean(0)
        return torch.nn.functional.normalize(mean_h, dim=0).tolist()

    @torch.no_grad()
    def _read(self, ids: Sequence[int], top: int) -> tuple[Step, ...]:
        given = torch.tensor([ids])
        out: Any = self._model(input_ids=given)
        first = Step(self._one(ids[0]), None)
        return (first, *self._steps(out.logits[0, :-1], given[0, 1:], top))

    def _steps(self, logits_nv: Tensor, token_n: Tensor, top: int) -> list[Step]:
        logprobs_nv = torch.log_softmax(logits_nv.float(), -1)
        chosen_n = logprobs_nv.gather(1, token_n[:, None])[:, 0]
        values_nk, ids_nk = topk_lowest_id(logprobs_nv, top) if top else (logprobs_nv[:, :0], token_n[:, None][:, :0])
        lists = [
            tuple((self._one(token), float(value)) for token, value in zip(ids, values, strict=True))
            for ids, values in zip(ids_nk.tolist(), values_nk.tolist(), strict=True)
        ]
        tokens = zip(token_n.tolist(), chosen_n.tolist(), lists, strict=True)
        return [Step(self._one(token), value, likeliest) for token, value, likeliest in tokens]

    def _one(self, token: int) -> str:
        return self._tokenizer.decode([token])


def _size(one: _Waiting) -> tuple[int, int]:
    return len(one.ids), one.limit_tokens


def _dice(drawing: Drawing) -> torch.Generator:
    return torch.Generator().manual_seed(secrets.randbits(31) if drawing.seed is None else drawing.seed)


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.written.done():
        one.written.set_exception(error)
