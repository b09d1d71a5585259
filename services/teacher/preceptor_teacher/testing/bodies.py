"""What the stand-in takes of request bodies. Fields that would change the answer and are not served are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from preceptor_teacher.testing.writer import MOST_TOP, Drawing

ANSWER_TOKENS = 256
Top = Annotated[int, Field(ge=0, le=MOST_TOP)]


class _Body(BaseModel):
    """Unknown fields are let through, as providers do; these would be promises that the stand-in cannot keep."""

    model: str
    n: Literal[1] | None = 1
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Unset is greedy, so that a newcomer's first verdicts are the same each time."""

    seed: int | None = None


class Part(BaseModel):
    """A piece of a message; only text can be read."""

    type: Literal["text"]
    text: str
    cache_control: Any = None


Content = str | list[Part]


def text_of(content: Content) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    @property
    def text(self) -> str:
        return text_of(self.content)


class EmbeddingBody(BaseModel):
    """One text or several."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    encoding_format: Literal["float"] = "float"

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class NamedSchema(BaseModel):
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatBody(_Body):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = False
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: Top | None = None
    response_format: ResponseFormat | None = None
    stream_options: StreamOptions | None = None

    @property
    def limit_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or ANSWER_TOKENS

    @property
    def drawing(self) -> Drawing:
        return Drawing(self.temperature or 0.0, self.seed, (self.top_logprobs or 0) if self.logprobs else None)

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        named = self.response_format.json_schema if self.response_format else None
        return named.schema_ if named else None


Ids = Annotated[list[int], Field(min_length=1)]


class CompletionBody(_Body):
    """`POST /v1/completions`: the continuation of text or ids, and with `echo` the log-probabilities of what was given."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)] | Ids | Annotated[list[Ids], Field(max_length=64)]
    max_tokens: int = Field(default=16, ge=0)
    logprobs: Top | None = None
    echo: bool | None = False
    stream: Literal[False] | None = False

    @property
    def drawing(self) -> Drawing:
        return Drawing(self.temperature or 0.0, self.seed, self.logprobs)


class OutputFormat(BaseModel):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(BaseModel):
    format: OutputFormat | None = None


class MessagesBody(BaseModel):
    """`POST /v1/messages`, in Anthropic's shape."""

    model: str
    max_tokens: int = Field(ge=1)
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    system: Content | None = None
    stream: bool | None = False
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    output_config: OutputConfig | None = None

    @property
    def conversation(self) -> list[ChatMessage]:
        first = [] if self.system is None else [ChatMessage(role="system", content=self.system)]
        return [*first, *self.messages]

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        wanted = self.output_config.format if self.output_config else None
        return wanted.schema_ if wanted else None

    @property
    def cacheable(self) -> str:
        """What of the system text is marked for the provider's cache."""
        if self.system is None or isinstance(self.system, str) or not any(part.cache_control for part in self.system):
            return ""
        return text_of(self.system)
