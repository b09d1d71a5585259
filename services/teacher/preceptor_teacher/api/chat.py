"""A client of one provider: what is asked twice is paid once, and what fails is tried again inside several bounds.

A request goes this way:
equal to one under way (`together`) or answered before (`calls`) │ a place │ circuit closed (`breaker`) │ room in the minute
(`rates`) │ written down within the budget (`calls`) │ sent (`line`) │ settled │ after a failure once more (`retries`)
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
from pydantic import SecretStr

from preceptor.errors import PreceptorError, Unavailable, Unsupported
from preceptor.hooks import Hooks, NoHooks
from preceptor.planning import Price
from preceptor_serving.quotas import Desk
from preceptor_teacher.api import points
from preceptor_teacher.api.breaker import Breaker
from preceptor_teacher.api.calls import NOBODY, CallStore, Payer, Spent
from preceptor_teacher.api.calls.records import NANO, Budgets, cost_nano, most_nano, most_tokens
from preceptor_teacher.api.line import Line, Sent
from preceptor_teacher.api.messages import ChatReply, Embedded, Message, Question
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.probing import Found, probe
from preceptor_teacher.api.rates import Rates
from preceptor_teacher.api.retries import RetryAllowance, RetryBudget
from preceptor_teacher.api.together import Together
from preceptor_teacher.api.wires import WIRES, Wire
from preceptor_teacher.api.wires.embedding import embedding_wire

Book = Callable[[Payer, Spent], None]
"""Is told of each call that has ended."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the things that the provider is asked for: over which line, in which shape, at what price."""

    line: Line
    wire: Wire
    price: Price | None


class ChatClient:
    """Made inside an event loop. `desk` holds the minute's reservations, `transport` replaces the network in tests."""

    def __init__(
        self,
        options: ApiOptions,
        key: SecretStr | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        name: str = "provider",
        desk: Desk | None = None,
        book: Book = lambda payer, spent: None,
        hooks: Hooks | None = None,
    ) -> None:
        self._options, self._book, self._hooks = options, book, hooks or NoHooks()
        self._chat = Way(Line(options, key, transport), WIRES[options.wire], options.price)
        self._vectors: Way | None = None
        if options.embedding is not None:
            wire = embedding_wire(options.embedding, options)
            self._vectors = Way(Line(options, key, transport, wire=wire), wire, options.embedding.price)
        budgets = Budgets.of(options.job_budget_usd, options.budget_usd)
        self.calls = CallStore(options.ledger_folder, options.reply_cache_bytes, budgets)
        self.breaker = Breaker(options.breaker_failures, options.breaker_open_s)
        self.allowance = RetryAllowance(options.retry_share)
        self.outcomes: Counter[str] = Counter()
        self.spent = Spent()  # of this process
        self._rates = Rates(name, options, desk or Desk(None))
        self._together = Together()
        self._slots = asyncio.Semaphore(options.max_concurrency)
        self._open_at_s = 0.0  # a provider that asks one caller to wait means all of them
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the last request failed, and since when nothing is sent."""
        if wait_s := self.breaker.look_s(_now_s()):
            return f"{self._trouble}; the circuit is {self.breaker.state}, next trial in {wait_s:.0f} s"
        return self._trouble

    @property
    def joined(self) -> int:
        """Requests that shared one that was under way."""
        return self._together.joined

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        *,
        payer: Payer = NOBODY,
        sample: int = 0,
    ) -> ChatReply:
        """The reply, or the `PreceptorError` of the last attempt: one that is not retryable where asking again cannot help.

        Equal requests have one reply; `sample` tells those apart that are to be answered each for itself.
        """
        question = Question(tuple(messages), max_tokens or self._options.max_reply_tokens, schema)
        return await self._ask(self._chat, question, payer, sample)

    async def embed(self, text: str, *, payer: Payer = NOBODY) -> Embedded:
        """The text as a vector, which is bounded, counted and remembered as every reply is."""
        if self._vectors is None:
            raise Unsupported("this provider's teacher names no embedding model", field="embedding", value="unset")
        question = Question((Message(role="user", content=text),), 0)
        reply = await self._ask(self._vectors, question, payer, 0)
        return Embedded(tuple(json.loads(reply.text)), reply)

    async def probe(self) -> Found:
        """Asks what the provider serves; its questions are bounded as one answer is."""
        try:
            async with asyncio.timeout(self._options.deadline_s):
                return await probe(self._chat.line.ask, self._options)
        except TimeoutError:
            return Found()

    async def close(self) -> None:
        await self._chat.line.close()
        if self._vectors is not None:
            await self._vectors.line.close()
        await self.calls.close()

    # ---------------------------------------------------------------- one request

    async def _ask(self, way: Way, question: Question, payer: Payer, sample: int) -> ChatReply:
        body = json.dumps(way.wire.body(question, self._options), ensure_ascii=False).encode("utf-8", errors="replace")
        key = self.calls.key_of(payer, way.line.url.encode(), body, str(sample).encode())
        return await self._together.run(key, lambda: self._answer(way, question, body, key, payer))

    async def _answer(self, way: Way, question: Question, body: bytes, key: bytes, payer: Payer) -> ChatReply:
        known = await self.calls.reply(key)
        if known is not None:
            self.outcomes["remembered"] += 1
            return replace(known, cost_usd=None if way.price is None else 0.0)
        async with self._slots:
            self.allowance.begin()
            try:
                async with asyncio.timeout(self._options.deadline_s):
                    return await self._insist(way, question, body, key, payer)
            except TimeoutError:
                told = f"no answer of the provider within {self._options.deadline_s:g} s: {self._trouble or 'there was no room'}"
                raise Unavailable(told) from None

    async def _insist(self, way: Way, question: Question, body: bytes, key: bytes, payer: Payer) -> ChatReply:
        budget = RetryBudget(self._options.max_attempts, self._options.retry_budget_s)
        while True:
            try:
                await self._until_open(budget)
                reply = await self._attempt(way, question, body, key, payer)
            except PreceptorError as error:
                self._trouble = error.message
                await self._pause(error, budget)
            else:
                self._trouble = None
                return replace(reply, calls=budget.attempts + 1)

    async def _attempt(self, way: Way, question: Question, body: bytes, key: bytes, payer: Payer) -> ChatReply:
        most = most_tokens(question)
        async with self._rates.room(most.prompt + most.completion) as room:
            while wait_s := self.breaker.wait_s(_now_s()):  # noqa: ASYNC110 - time passes, nobody calls
                await asyncio.sleep(wait_s)
            era = self.breaker.era
            try:
                call = await self.calls.begin(payer, most_nano(way.price, question), self._options.timeout_s)
                sent = await self._send(way, call, body, payer)
            except BaseException:
                self.breaker.left(era, _now_s())
                raise
            self.breaker.told(era, good=sent.answered, now_s=_now_s())
            spent = _spent(way, sent)
            room.tokens = spent.tokens.prompt + spent.tokens.completion
            return await self._settle(way, call, sent, spent, key, payer)

    async def _send(self, way: Way, call: int, body: bytes, payer: Payer) -> Sent:
        """A call that is given up on its way may have been paid."""
        self._hooks.reached(points.WRITTEN)
        try:
            return await way.line.send(body)
        except BaseException:
            await self.calls.lose(call, payer)
            raise

    async def _settle(self, way: Way, call: int, sent: Sent, spent: Spent, key: bytes, payer: Payer) -> ChatReply:
        self._hooks.reached(points.SENT)
        self._book(payer, spent)
        self.spent += spent
        if sent.parsed is None:
            assert sent.error is not None, "an attempt ends with a reply or an error"
            self.outcomes[str(sent.error.code).lower()] += 1
            await (self.calls.lose(call, payer) if sent.maybe_paid else self.calls.settle(call, payer, spent))
            raise sent.error
        self.outcomes["ok"] += 1
        await self.calls.settle(call, payer, spent, key, sent.parsed.reply)
        self._hooks.reached(points.KEPT)
        tokens = spent.tokens
        return replace(
            sent.parsed.reply,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cached_tokens=tokens.cached,
            cost_usd=None if way.price is None else spent.cost_nano / NANO,
        )

    # ---------------------------------------------------------------- waiting

    async def _until_open(self, budget: RetryBudget) -> None:
        """Until the provider's own advice is over and the circuit lets something through."""
        if (wait_s := self._open_at_s - _now_s()) > 0:
            await asyncio.sleep(wait_s)
        while wait_s := self.breaker.look_s(_now_s()):
            if budget.spent_s + wait_s > budget.budget_s:
                raise Unavailable(f"nothing is sent: {self.trouble}", retry_after_s=wait_s)
            budget.spent_s += wait_s
            await asyncio.sleep(wait_s)

    async def _pause(self, error: PreceptorError, budget: RetryBudget) -> None:
        """Sleeps as advised or backs off; raises the error where it is final or one of the budgets is spent."""
        if error.retry_after_s is not None:
            bounded_s = min(error.retry_after_s, self._options.retry_budget_s)
            self._open_at_s = max(self._open_at_s, _now_s() + bounded_s)
        pause_s = budget.next_pause_s(error)
        if not self.allowance.take():
            raise error
        await asyncio.sleep(pause_s)


def _spent(way: Way, sent: Sent) -> Spent:
    return Spent(1) if sent.parsed is None else Spent(1, sent.parsed.tokens, cost_nano(way.price, sent.parsed.tokens))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
