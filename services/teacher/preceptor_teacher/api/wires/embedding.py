"""A text as a vector, in the shape in which OpenAI, Azure and many others speak of it: one text a request."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from preceptor.errors import ConfigurationError, Unavailable
from preceptor_teacher.api.messages import ChatReply, Question, Tokens
from preceptor_teacher.api.options import ApiOptions, EmbeddingOptions
from preceptor_teacher.api.wires.openai import AZURE, CHAT, EMBEDDINGS_END, path_to
from preceptor_teacher.api.wires.protocol import Parsed, Wire
from preceptor_teacher.api.wires.reading import Body, count


def embedding_wire(embedding: EmbeddingOptions, options: ApiOptions) -> Wire:
    """How this provider is asked for vectors; the reply's text is the vector as JSON."""
    keys = AZURE.key_headers if options.wire == AZURE.name else CHAT.key_headers
    body, read = partial(_body, embedding.model), partial(_read, embedding.dimensions)
    return Wire("embedding", partial(path_to, EMBEDDINGS_END, model=embedding.model), keys, body, read, schemas=False)


def embedding_body(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "input": text, "encoding_format": "float"}


def vector_of(body: Body, dimensions: int) -> list[float]:
    """The one vector of a reply. `Unavailable` for what is none, `ConfigurationError` for one of another length."""
    data: Any = body.get("data")
    if not isinstance(data, list) or len(data) != 1:  # pyright: ignore[reportUnknownArgumentType]
        raise Unavailable("the provider's reply has not one vector for one text")
    vector: Any = data[0].get("embedding") if isinstance(data[0], dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(vector, list) or not all(map(_is_finite, vector)):  # pyright: ignore[reportUnknownArgumentType]
        raise Unavailable("the provider's reply has a vector that is not all finite numbers")
    if len(vector) != dimensions:  # pyright: ignore[reportUnknownArgumentType]
        raise ConfigurationError(
            "the provider's vectors have another length",
            field="embedding.dimensions",
            value=len(vector),  # pyright: ignore[reportUnknownArgumentType]
            limit=dimensions,
            hint="write the length that the provider's embedding model has into the teacher's entry",
        )
    if not any(vector):  # pyright: ignore[reportUnknownArgumentType]
        raise Unavailable("the provider's reply has a vector without a direction")
    return [float(one) for one in vector]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _body(model: str, question: Question, _options: ApiOptions) -> dict[str, Any]:
    return embedding_body(model, question.messages[0]["content"])


def _read(dimensions: int, body: Body) -> Parsed:
    reply = ChatReply(json.dumps(vector_of(body, dimensions)), "stop", refused=False)
    return Parsed(reply, Tokens(count(body, "usage", "prompt_tokens")))


def _is_finite(value: object) -> bool:
    """Also of a whole number, which JSON may have without bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
