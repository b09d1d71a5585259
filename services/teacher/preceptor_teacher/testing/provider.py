"""The stand-in's HTTP side: the OpenAI routes that a grader or a chat client uses, over real sockets."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

from preceptor.config.settings import LOOPBACK
from preceptor_serving.doors.http_server import HttpDoor
from preceptor_teacher.testing.bodies import ChatBody, CompletionBody
from preceptor_teacher.testing.faults import FaultPlan, error_response
from preceptor_teacher.testing.judging import read_judging
from preceptor_teacher.testing.writer import Writer, Written

OWN_ANSWER_TOKENS = 256
MAX_CONNECTIONS = 1024


class Provider:
    """Answers requests by their text. `seen` counts them: by route, and by fault."""

    def __init__(self, folder: Path, name: str, faults: FaultPlan | None = None, api_key: str | None = None) -> None:
        self.name = name or folder.resolve().name
        self.seen: Counter[str] = Counter()
        self._writer = Writer(folder)
        self._faults, self._api_key = faults or FaultPlan(), api_key
        self._own_answers: dict[str, asyncio.Task[Written]] = {}
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
            return self._denied(request) or JSONResponse({"object": "list", "data": [self._model()]})

        @app.post("/v1/chat/completions")
        async def chat(request: Request, body: ChatBody) -> Response:
            return await self._gone_wrong(request, "chat") or await self._chat(body)

        @app.post("/v1/completions")
        async def completions(request: Request, body: CompletionBody) -> Response:
            return await self._gone_wrong(request, "completions") or await self._complete(body)

        return app

    def close(self) -> None:
        self._writer.close()

    # ---------------------------------------------------------------- answers

    async def _chat(self, body: ChatBody) -> Response:
        ids = self._writer.render([{"role": one.role, "content": one.text} for one in body.messages])
        judging = read_judging(body.messages[-1].text)
        if judging is None:
            written = await self._writer.write(ids, body.limit_tokens)
        else:
            self.seen["judged"] += 1
            own = await self._own_answer(judging.prompt)
            text = judging.reply(own.text)
            written = Written(text, len(ids), len(self._writer.encode(text)), finished=True)
        message = {"role": "assistant", "content": written.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(written)}
        return self._completion("chat.completion", [choice], [written])

    async def _complete(self, body: CompletionBody) -> Response:
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        ids = [self._writer.encode(prompt) for prompt in prompts]
        written = await asyncio.gather(*(self._writer.write(one, body.max_tokens) for one in ids))
        choices = [
            {"index": i, "text": one.text, "logprobs": None, "finish_reason": _reason(one)} for i, one in enumerate(written)
        ]
        return self._completion("text_completion", choices, written)

    def _own_answer(self, prompt: str) -> asyncio.Future[Written]:
        """What the model itself answers; asked once for each prompt, however many responses are judged."""
        if prompt not in self._own_answers:
            ids = self._writer.render([{"role": "user", "content": prompt}])
            self._own_answers[prompt] = asyncio.create_task(self._writer.write(ids, OWN_ANSWER_TOKENS))
        return asyncio.shield(self._own_answers[prompt])

    def _completion(self, kind: str, choices: Sequence[dict[str, Any]], written: Sequence[Written]) -> Response:
        read, wrote = sum(one.prompt_tokens for one in written), sum(one.completion_tokens for one in written)
        return JSONResponse(
            {
                "id": f"stand-in-{next(self._numbers)}",
                "object": kind,
                "created": int(time.time()),
                "model": self.name,
                "choices": list(choices),
                "usage": {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote},
            }
        )

    def _model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "stand-in"}

    # ---------------------------------------------------------------- refusals

    async def _gone_wrong(self, request: Request, route: str) -> Response | None:
        self.seen[route] += 1
        if denied := self._denied(request):
            return denied
        fault = self._faults.next()
        if not fault:
            return None
        self.seen[fault] += 1
        return await self._faults.answer(fault)

    def _denied(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if self._api_key is None or hmac.compare_digest(given.encode(), f"Bearer {self._api_key}".encode()):
            return None
        return error_response(401, f"Incorrect API key provided: {given}.", "invalid_api_key")


async def _wrong_body(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return error_response(400, f"{where}: {first['msg']}", "invalid_request_error")


def _reason(written: Written) -> str:
    return "stop" if written.finished else "length"


@dataclass(frozen=True, slots=True)
class StandIn:
    """A stand-in that is being served."""

    base_url: str
    provider: Provider


@asynccontextmanager
async def standing_in(
    folder: Path, *, name: str = "", faults: FaultPlan | None = None, api_key: str | None = None, port: int = 0
) -> AsyncGenerator[StandIn]:
    """A stand-in on a loopback port for the length of the block; 0 takes any free one."""
    provider = Provider(folder, name, faults, api_key)
    door = HttpDoor(provider.app(), LOOPBACK, port, MAX_CONNECTIONS)
    try:
        await door.start()
        yield StandIn(f"http://{LOOPBACK}:{door.port}/v1", provider)
    finally:
        await door.stop()
        provider.close()
