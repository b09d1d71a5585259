"""OpenAI's `/v1/chat/completions`: a conversation with a teacher behind an API. Those that score ids refuse it by name."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from preceptor.errors import InvalidArgument, Unsupported
from preceptor_teacher.api import ChatReply, Message
from preceptor_teacher.compat.completions import FINGERPRINT, usage
from preceptor_teacher.compat.sampling import check_neutral
from preceptor_teacher.judges import Judge
from preceptor_teacher.rest.bodies import Body

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService

MAX_MESSAGES, MAX_MESSAGE_CHARS = 1024, 1 << 20


NEUTRAL_HERE: dict[str, tuple[object, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}


class MessageBody(Body):
    """One turn, as text."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)]


class ChatBody(Body):
    """The fields of the request."""

    model: str
    """Name or alias of a teacher behind an API."""

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """The same under its newer name."""

    temperature: Annotated[float, Field(ge=0, le=0)] | None = None
    """These teachers are always asked at temperature 0."""

    n: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    stop: Any = None
    stream: Any = None
    stream_options: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    prompt_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    logit_bias: Any = None
    seed: Any = None
    user: Any = None


def read(body: ChatBody) -> tuple[list[Message], int | None]:
    """The conversation, and how long the answer may be."""
    check_neutral(body, also=NEUTRAL_HERE)
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise InvalidArgument(
            "two bounds", field="max_completion_tokens", value=body.max_completion_tokens, limit=f"max_tokens, {body.max_tokens}"
        )
    messages: list[Message] = [{"role": one.role, "content": one.content} for one in body.messages]
    return messages, body.max_tokens or body.max_completion_tokens


def find(service: TeacherService, name: str) -> Judge:
    """The teacher of that name, which has to be one that answers with text."""
    try:
        judge = service.find_judge(name, "model")
    except Unsupported as error:
        hint = f"{error.hint}; scores: token ids as the prompt of /v1/completions"
        raise Unsupported(
            f"teacher {name} scores token ids; it does not chat",
            field="model",
            value=name,
            limit="a teacher behind an API",
            hint=hint,
        ) from error
    if not isinstance(judge, Judge):
        raise Unsupported(
            f"teacher {name} does not chat",
            field="model",
            value=name,
            limit="a teacher behind an API",
        )
    return judge


def write(model: str, reply: ChatReply) -> dict[str, Any]:
    """The reply."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    reason = "content_filter" if reply.refused else reply.finish_reason or "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "system_fingerprint": FINGERPRINT,
        "usage": usage(reply.prompt_tokens, reply.completion_tokens),
    }
