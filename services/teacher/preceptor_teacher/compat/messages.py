"""Anthropic's `/v1/messages`: the same conversation as `/v1/chat/completions`, in the other provider's words."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from preceptor_teacher.api import ChatReply, Message
from preceptor_teacher.compat.chat import MAX_MESSAGE_CHARS, MAX_MESSAGES
from preceptor_teacher.compat.sampling import check_neutral
from preceptor_teacher.rest.bodies import Body

MAX_PARTS = 1024
NEUTRAL_HERE: dict[str, tuple[object, ...]] = {
    "stop_sequences": ([],),
    "thinking": ({"type": "disabled"},),
    "tools": ([],),
    "tool_choice": ({"type": "auto"}, {"type": "none"}),
    "mcp_servers": ([],),
    "output_config": ({},),
    "container": (),
    "context_management": (),
    "diagnostics": (),
    "speed": ("standard",),
    "inference_geo": (),
    "user_profile_id": (),
    "workspace_id": (),
}
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


class PartBody(Body):
    """A piece of text; what stands in the provider's cache is this server's business."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)]
    cache_control: Any = None
    citations: Any = None


def _form(value: object) -> str:
    return "parts" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)], Tag("text")]
    | Annotated[Annotated[list[PartBody], Field(max_length=MAX_PARTS)], Tag("parts")],
    Discriminator(_form),
]
"""Text, whole or in pieces."""


class TurnBody(Body):
    """One turn."""

    role: Literal["user", "assistant"]
    content: Content


class MessagesBody(Body):
    """The fields of the request."""

    model: str
    """Name or alias of a teacher behind an API."""

    messages: Annotated[list[TurnBody], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1)]
    system: Content | None = None
    temperature: Annotated[float, Field(ge=0, le=0)] | None = None
    """These teachers are always asked at temperature 0."""

    top_p: Any = None
    top_k: Any = None
    stop_sequences: Any = None
    stream: Any = None
    thinking: Any = None
    tools: Any = None
    tool_choice: Any = None
    mcp_servers: Any = None
    output_config: Any = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    speed: Any = None
    inference_geo: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None
    cache_control: Any = None
    metadata: Any = None
    """Who asks is said by the key."""

    service_tier: Any = None


def read(body: MessagesBody) -> list[Message]:
    """The conversation; what the system says stands first."""
    check_neutral(body, also=NEUTRAL_HERE)
    system: list[Message] = [] if body.system is None else [{"role": "system", "content": _text(body.system)}]
    return [*system, *({"role": one.role, "content": _text(one.content)} for one in body.messages)]


def _text(content: str | list[PartBody]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def write(model: str, reply: ChatReply) -> dict[str, Any]:
    """The reply. What the provider's cache gave is counted beside the rest, as there."""
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": "refusal" if reply.refused else STOP_REASONS.get(reply.finish_reason, "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.prompt_tokens - reply.cached_tokens,
            "output_tokens": reply.completion_tokens,
            "cache_read_input_tokens": reply.cached_tokens,
            "cache_creation_input_tokens": 0,
        },
    }
