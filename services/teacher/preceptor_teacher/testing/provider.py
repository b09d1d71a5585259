"""The stand-in's HTTP side: the routes of OpenAI, Azure and Anthropic that graders and chat clients use, over real sockets."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from preceptor.config.settings import LOOPBACK
from preceptor_serving.doors.http_server import HttpDoor
from preceptor_teacher.testing import replies
from preceptor_teacher.testing.bodies import ChatBody, ChatMessage, CompletionBody, EmbeddingBody, MessagesBody
from preceptor_teacher.testing.continuing import Continuing, read_continuing
from preceptor_teacher.testing.dialects import ANTHROPIC, OPENAI, Dialect, key_of
from preceptor_teacher.testing.faults import FAULTS, FaultPlan, Truth
from preceptor_teacher.testing.judging import read_judging
from preceptor_teacher.testing.shapes import few_instances, instance
from preceptor_teacher.testing.stepping import read_stepping
from preceptor_teacher.testing.writer import GREEDY, Drawing, Step, Writer, Written

OWN_ANSWER_TOKENS = 256
MAX_CONNECTIONS = 1024
EVENTS = "text/event-stream"


class Provider:
    """Answers requests by their text. `seen` counts them as they reach the socket: by route, and by fault."""

    def __init__(
        self, folder: Path, name: str, faults: FaultPlan | None = None, api_key: str | None = None, *, plays_judge: bool = True
    ) -> None:
        self.name = name or folder.resolve().name
        self._plays_judge = plays_judge
        self.seen: Counter[str] = Counter()
        self._writer = Writer(folder)
        self._faults, self._api_key = faults or FaultPlan(), api_key
        self._own_answers: dict[str, asyncio.Task[Written]] = {}
        self._cached_texts: set[str] = set()
        self._numbers = itertools.count(1)

    def app(self) -> FastAPI:
        """The routes."""
        app = FastAPI(title="stand-in provider", openapi_url=None)
        app.add_exception_handler(RequestValidationError, _wrong_body)

        @app.get("/readyz")
        async def ready() -> Response:
            return JSONResponse({"state": "ready"})

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            return self._denied(request, OPENAI) or JSONResponse({"object": "list", "data": [self._model()]})

        @app.post("/v1/chat/completions")
        @app.post("/openai/deployments/{deployment}/chat/completions")
        async def chat(request: Request, body: ChatBody) -> Response:
            return await self._answer(request, "chat", OPENAI, lambda: self._chat(body))

        @app.post("/v1/completions")
        async def completions(request: Request, body: CompletionBody) -> Response:
            return await self._answer(request, "completions", OPENAI, lambda: self._complete(body))

        @app.post("/v1/embeddings")
        @app.post("/openai/deployments/{deployment}/embeddings")
        async def embeddings(request: Request, body: EmbeddingBody) -> Response:
            return await self._answer(request, "embeddings", OPENAI, lambda: self._embed(body))

        @app.post("/v1/messages")
        async def messages(request: Request, body: MessagesBody) -> Response:
            return await self._answer(request, "messages", ANTHROPIC, lambda: self._message(body))

        return app

    def close(self) -> None:
        self._writer.close()

    # ---------------------------------------------------------------- answers

    async def _chat(self, body: ChatBody) -> Response:
        written = await self._written(body.messages, body.limit_tokens, body.drawing, body.schema_asked)
        message = {"role": "assistant", "content": written.text, "refusal": None}
        logprobs = replies.chat_logprobs(written.steps) if body.logprobs else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": replies.reason(written)}
        whole = self._completion("chat.completion", [choice], [written])
        if not body.stream:
            return JSONResponse(whole)
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(replies.chat_events(whole, with_usage=with_usage), media_type=EVENTS)

    async def _embed(self, body: EmbeddingBody) -> Response:
        ids = [self._writer.encode(text) for text in body.texts]
        vectors = await asyncio.gather(*map(self._writer.embed, ids))
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
        read = sum(map(len, ids))
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "model": self.name, "data": data, "usage": usage})

    async def _message(self, body: MessagesBody) -> Response:
        drawing = Drawing(body.temperature or 0.0)
        written = await self._written(body.conversation, body.max_tokens, drawing, body.schema_asked)
        whole = replies.message(next(self._numbers), self.name, written, self._messages_usage(body, written))
        if not body.stream:
            return JSONResponse(whole)
        return StreamingResponse(replies.message_events(whole), media_type=EVENTS)

    async def _complete(self, body: CompletionBody) -> Response:
        prompts = self._prompts(body)
        choices, written = [], await asyncio.gather(*(self._completed(one, body) for one in prompts))
        for index, (ids, one) in enumerate(zip(prompts, written, strict=True)):
            text = (self._writer.text(ids) if body.echo else "") + one.text
            logprobs = None if body.logprobs is None else replies.completion_logprobs(one.steps)
            choices.append({"index": index, "text": text, "logprobs": logprobs, "finish_reason": replies.reason(one)})
        return JSONResponse(self._completion("text_completion", choices, written))

    async def _completed(self, ids: tuple[int, ...], body: CompletionBody) -> Written:
        """The continuation; with `echo` its steps begin with those of the prompt."""
        written = await self._writer.write(ids, body.max_tokens, body.drawing)
        given: tuple[Step, ...] = ()
        if body.echo and body.logprobs is not None:
            given = await self._writer.read(ids, body.logprobs)
        return replace(written, steps=given + written.steps)

    async def _written(
        self, messages: Sequence[ChatMessage], limit_tokens: int, drawing: Drawing, schema: dict[str, Any] | None
    ) -> Written:
        """The answer to a conversation: a verdict or a continuation where one is asked for, else what the model writes, in a
        schema's shape."""
        ids = self._writer.render([{"role": one.role, "content": one.text} for one in messages])
        asked = messages[-1].text if self._plays_judge else ""
        judging, continuing = read_judging(asked) or read_stepping(asked), read_continuing(asked)
        if judging is None and continuing is None and schema is None:
            return await self._writer.write(ids, limit_tokens, drawing)
        if continuing is not None:
            self.seen["continued"] += 1
            text = continuing.reply("" if continuing.both else (await self._continued(continuing, drawing)).text)
        elif judging is not None:
            self.seen["judged"] += 1
            text = judging.reply((await self._own_answer(judging.prompt)).text)
        elif few := few_instances(schema or {}):
            text = await self._writer.choose(ids, [json.dumps(one) for one in few])
        else:
            text = json.dumps(instance(schema or {}, (await self._writer.write(ids, limit_tokens, drawing)).text))
        return Written(text, len(ids), len(self._writer.encode(text)), finished=True)

    def _continued(self, continuing: Continuing, drawing: Drawing) -> Awaitable[Written]:
        """How the model goes on behind the beginning of an answer."""
        ids = self._writer.render([{"role": "user", "content": continuing.prompt}])
        return self._writer.write(ids + self._writer.encode(continuing.begun), OWN_ANSWER_TOKENS, drawing)

    def _own_answer(self, prompt: str) -> asyncio.Future[Written]:
        """What the model itself answers; asked once for each prompt, however many responses are judged."""
        if prompt not in self._own_answers:
            ids = self._writer.render([{"role": "user", "content": prompt}])
            self._own_answers[prompt] = asyncio.create_task(self._writer.write(ids, OWN_ANSWER_TOKENS, GREEDY))
        return asyncio.shield(self._own_answers[prompt])

    def _prompts(self, body: CompletionBody) -> list[tuple[int, ...]]:
        given = body.prompt
        several = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        return [self._writer.encode(one) if isinstance(one, str) else tuple(one) for one in several]  # pyright: ignore[reportArgumentType]

    def _completion(self, kind: str, choices: Sequence[dict[str, Any]], written: Sequence[Written]) -> dict[str, Any]:
        return replies.completion(next(self._numbers), self.name, kind, choices, replies.usage_of(written))

    def _messages_usage(self, body: MessagesBody, written: Written) -> dict[str, int]:
        """A system text that is marked for the cache is written at its first use and read at the next ones."""
        marked = body.cacheable
        kept = min(len(self._writer.encode(marked)), written.prompt_tokens)
        known = marked in self._cached_texts
        self._cached_texts |= {marked} - {""}
        return {
            "input_tokens": written.prompt_tokens - kept,
            "output_tokens": written.completion_tokens,
            "cache_creation_input_tokens": 0 if known else kept,
            "cache_read_input_tokens": kept if known else 0,
        }

    def _model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "stand-in"}

    # ---------------------------------------------------------------- bad days

    async def _answer(self, request: Request, route: str, dialect: Dialect, truth: Truth) -> Response:
        """The truth, or what is said instead."""
        self.seen[route] += 1
        if denied := self._denied(request, dialect):
            return denied
        fault = self._faults.next()
        if not fault:
            return await truth()
        self.seen[fault] += 1
        return await FAULTS[fault](dialect, truth)

    def _denied(self, request: Request, dialect: Dialect) -> Response | None:
        given = key_of(request)
        if self._api_key is None or hmac.compare_digest(given.encode(), self._api_key.encode()):
            return None
        return dialect.error(401, f"Incorrect API key provided: {given}.")


async def _wrong_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    dialect = ANTHROPIC if request.url.path.endswith("/messages") else OPENAI
    return dialect.error(400, f"{field}: {first['msg']}")


@dataclass(frozen=True, slots=True)
class StandIn:
    """A stand-in that is being served."""

    base_url: str
    provider: Provider

    @property
    def root_url(self) -> str:
        """Without the version, as Azure's and Anthropic's clients want it."""
        return self.base_url.removesuffix("/v1")


@asynccontextmanager
async def standing_in(
    folder: Path,
    *,
    name: str = "",
    faults: FaultPlan | None = None,
    api_key: str | None = None,
    port: int = 0,
    plays_judge: bool = True,
) -> AsyncGenerator[StandIn]:
    """A stand-in on a loopback port for the length of the block; 0 takes any free one.

    Without `plays_judge` the model itself answers those who ask for a verdict, as well as it can.
    """
    provider = Provider(folder, name, faults, api_key, plays_judge=plays_judge)
    door = HttpDoor(provider.app(), LOOPBACK, port, MAX_CONNECTIONS)
    try:
        await door.start()
        yield StandIn(f"http://{LOOPBACK}:{door.port}/v1", provider)
    finally:
        await door.stop()
        provider.close()
