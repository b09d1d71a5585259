"""The routes of all dialects. Each of them also stands under `/t/NAME`, for trainers that can name no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from preceptor.errors import InvalidArgument
from preceptor.types import ModelInfo
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_errors import ErrorShape
from preceptor_serving.doors.rest_pieces import json_reply
from preceptor_serving.doors.rest_routes import ANY_KEY, CurrentCall, door_router, needs, shapes_errors
from preceptor_serving.frame.frame import Frame
from preceptor_teacher.compat import chat, completions, generate, messages, sglang, trl
from preceptor_teacher.compat.asks import ask
from preceptor_teacher.compat.shapes import anthropic_error, openai_error, sglang_error, trl_error

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService

NAMED = "/t/{teacher}"
Add = Callable[[Callable[..., Any]], None]


def compat_router(service: TeacherService) -> APIRouter:
    """All dialects on this service."""
    router = door_router()
    for add in (_openai, _chat, _vllm, _trl, _sglang):
        add(router, service)
    _named_health(router, service)
    return router


def _post(router: APIRouter, path: str, shape: ErrorShape, scope: Scope = Scope.SCORE) -> Add:
    return _route(router, path, shape, "POST", scope)


def _get(router: APIRouter, path: str, shape: ErrorShape) -> Add:
    return _route(router, path, shape, "GET", Scope.SCORE)


def _route(router: APIRouter, path: str, shape: ErrorShape, method: str, scope: Scope) -> Add:
    """The handler at its path, with and without the teacher's name before it."""

    def add(handler: Callable[..., Any]) -> None:
        marked = shapes_errors(shape)(needs(scope)(handler))
        for prefix in ("", NAMED):
            router.add_api_route(prefix + path, marked, methods=[method], response_model=None)

    return add


def _openai(router: APIRouter, service: TeacherService) -> None:
    @_get(router, "/v1/models", openai_error)
    async def models(request: Request, call: CurrentCall) -> Response:
        """The names that score, in OpenAI's shape."""
        name = request.path_params.get("teacher")
        infos = [_newest(service, one) for one in ([name] if name else service.teachers)]
        return JSONResponse(completions.model_list(infos))

    @_get(router, "/v1/models/{model}", openai_error)
    async def model(request: Request, model: str, call: CurrentCall) -> Response:
        """One of them."""
        return JSONResponse(completions.model_card(model, _newest(service, model)))

    @_post(router, "/v1/completions", openai_error)
    async def complete(request: Request, body: completions.CompletionBody, call: CurrentCall) -> Response:
        """Scores prompts of token ids; generates one token at most."""
        asks, names = completions.read(body)
        teacher = chosen(service, request, body.model)
        return await json_reply(completions.write(body, teacher, await ask(service, call, teacher, asks, names)))


def _chat(router: APIRouter, service: TeacherService) -> None:
    @_post(router, "/v1/chat/completions", openai_error, Scope.GRADE)
    async def converse(request: Request, body: chat.ChatBody, call: CurrentCall) -> Response:
        """A conversation with a teacher behind an API; teachers that score token ids refuse it."""
        name = request.path_params.get("teacher") or body.model
        judge = chat.find(service, name)
        said, max_tokens = chat.read(body)
        return JSONResponse(chat.write(name, await service.converse(judge, said, max_tokens, call)))

    @_post(router, "/v1/messages", anthropic_error, Scope.GRADE)
    async def message(request: Request, body: messages.MessagesBody, call: CurrentCall) -> Response:
        """The same in Anthropic's words."""
        name = request.path_params.get("teacher") or body.model
        judge = chat.find(service, name)
        return JSONResponse(messages.write(name, await service.converse(judge, messages.read(body), body.max_tokens, call)))


def _vllm(router: APIRouter, service: TeacherService) -> None:
    @_post(router, "/inference/v1/generate", openai_error)
    async def tokens(request: Request, body: generate.GenerateBody, call: CurrentCall) -> Response:
        """Scores one prompt of token ids; generates one token at most."""
        asks, names = generate.read(body)
        teacher = chosen(service, request, body.model)
        [answer] = await ask(service, call, teacher, asks, names)
        return await json_reply(generate.write(body, teacher, answer))


def _trl(router: APIRouter, service: TeacherService) -> None:
    @_post(router, "/get_sequence_logprobs/", trl_error)
    async def sequences(request: Request, body: trl.SequencesBody, call: CurrentCall) -> Response:
        """Scores completions behind their prompts."""
        frame: Frame = request.app.state.frame
        asks, names = trl.read(body, frame.limits.max_message_bytes)
        answers = await ask(service, call, chosen(service, request, None), asks, names)
        return await json_reply(trl.write(body, answers))


def _sglang(router: APIRouter, service: TeacherService) -> None:
    @_post(router, "/generate", sglang_error)
    async def scored(request: Request, body: sglang.GenerateBody, call: CurrentCall) -> Response:
        """Scores prompts of token ids; generates one token at most."""
        asks, names = sglang.read(body)
        answers = await ask(service, call, chosen(service, request, None), asks, names)
        return await json_reply(sglang.write(body, answers, names.single))

    for path in ("/get_model_info", "/model_info"):

        @_get(router, path, sglang_error)
        async def info(request: Request, call: CurrentCall) -> Response:
            """Which teacher answers here."""
            return JSONResponse(sglang.model_info(_newest(service, chosen(service, request, None))))


def _named_health(router: APIRouter, service: TeacherService) -> None:
    """`/health` under a teacher's name, where its trainers look for it; a name that nobody has is told there already."""
    for path in ("/health", "/health/"):

        @router.get(NAMED + path, include_in_schema=False)
        @needs(ANY_KEY)
        async def health(teacher: str, call: CurrentCall) -> Response:
            """200 while requests are answered."""
            service.infos(teacher, "path")
            return Response()


def chosen(service: TeacherService, request: Request, model: str | None) -> str:
    """The teacher that a request means: by its path, by its body, or the only one that scores."""
    named: str | None = request.path_params.get("teacher")
    if named and model and service.find(model, "model") is not service.find(named, "path"):
        raise InvalidArgument(
            f"the path names teacher {named}, the body {model}", field="model", value=model, limit=named, hint="name one of them"
        )
    name = model or named
    if name:
        service.find(name, "model" if model else "path")
        return name
    if len(service.teachers) == 1:
        return next(iter(service.teachers))
    several = ", ".join(service.teachers) or "none of this service"
    raise InvalidArgument(
        "which teacher is meant?",
        field="model",
        value="null",
        limit=several,
        hint="name it as the model, or put /t/NAME before the path",
    )


def _newest(service: TeacherService, name: str) -> ModelInfo:
    return service.find(name, "model").infos[0]
