"""What the stand-in takes of the OpenAI request bodies. Fields that would change the answer and are not served are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

ANSWER_TOKENS = 256


class _Body(BaseModel):
    """Unknown fields are let through, as providers do; these would be promises that the stand-in cannot keep."""

    model: str
    n: Literal[1] | None = 1
    stream: Literal[False] | None = False


class Part(BaseModel):
    """A piece of a message; only text can be read."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatBody(_Body):
    """`POST /v1/chat/completions`. Answers are greedy whatever the temperature."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: Literal[False] | None = False

    @property
    def limit_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or ANSWER_TOKENS


class CompletionBody(_Body):
    """`POST /v1/completions`: the continuation of plain text. It scores nothing: no logprobs, no echo."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    max_tokens: int = Field(default=16, ge=1)
    logprobs: None = None
    echo: Literal[False] | None = False
