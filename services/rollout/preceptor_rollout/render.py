"""Conversations and text to ids: the only place that encodes text."""

from __future__ import annotations

from typing import Any

import jinja2

from preceptor import wire
from preceptor.errors import InvalidArgument, Unsupported
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout.vocabulary import Vocabulary


def render(request: rollout_pb2.RenderRequest, vocabulary: Vocabulary) -> rollout_pb2.RenderReply:
    """Ids of every item, in order, and the digests of what made them."""
    return rollout_pb2.RenderReply(
        ids=[_render_item(item, vocabulary.tokenizer, f"items[{index}]") for index, item in enumerate(request.items)],
        tokenizer_sha256=vocabulary.tokenizer_sha256,
        template_sha256=vocabulary.template_sha256,
    )


def _render_item(item: rollout_pb2.RenderItem, tokenizer: Any, field: str) -> common_pb2.TokenIds:
    """Special tokens come from the template; plain text is encoded as it stands and nothing is added to it."""
    is_text = item.WhichOneof("input") == "text"
    text = item.text if is_text else _through_template(item.conversation, tokenizer, f"{field}.conversation")
    return wire.ids_to_proto(tokenizer.encode(text, add_special_tokens=False))


def _through_template(conversation: rollout_pb2.Conversation, tokenizer: Any, field: str) -> str:
    if not tokenizer.chat_template:
        raise Unsupported(
            "the student's tokenizer has no chat template",
            field=field,
            value="a conversation",
            limit="text",
            hint="render the whole prompt as text, or save the tokenizer with a chat template",
        )
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=conversation.add_generation_prompt)
    except jinja2.TemplateError as error:
        roles = ", ".join(message.role for message in conversation.messages)
        raise InvalidArgument(
            f"the chat template refuses this conversation: {error}", field=f"{field}.messages", value=roles
        ) from error
