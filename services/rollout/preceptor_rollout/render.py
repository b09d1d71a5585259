"""Conversations and text to ids: the only place that encodes text."""

from __future__ import annotations

from typing import Any

import jinja2

from preceptor import wire
from preceptor.errors import InvalidArgument, Unsupported
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout.vocabulary import Vocabulary

STAND_IN = "question"
REPLY = "replystandsheretobefoundagain"  # letters alone: no template trims or escapes them


def render(request: rollout_pb2.RenderRequest, vocabulary: Vocabulary) -> rollout_pb2.RenderReply:
    """Ids of every item, in order, and the digests of what made them."""
    return rollout_pb2.RenderReply(
        ids=[_render_item(item, vocabulary.tokenizer, f"items[{index}]") for index, item in enumerate(request.items)],
        tokenizer_sha256=vocabulary.tokenizer_sha256,
        template_sha256=vocabulary.template_sha256,
    )


def _render_item(item: rollout_pb2.RenderItem, tokenizer: Any, field: str) -> common_pb2.TokenIds:
    """Special tokens come from the template; plain text is encoded as it stands and nothing is added to it."""
    match item.WhichOneof("input"):
        case "text":
            text = item.text
        case "after_reply":
            text = _after_reply(item.after_reply, tokenizer, f"{field}.after_reply")
        case _:
            text = _through_template(item.conversation, tokenizer, f"{field}.conversation")
    return wire.ids_to_proto(tokenizer.encode(text, add_special_tokens=False))


def _after_reply(conversation: rollout_pb2.Conversation, tokenizer: Any, field: str) -> str:
    """What the template puts behind a reply, its own end included, when these messages follow.

    Found with a reply that stands for any: what was drawn is never rendered again, so no token of it can change.
    """
    whole = rollout_pb2.Conversation(add_generation_prompt=conversation.add_generation_prompt)
    whole.messages.add(role="user", content=STAND_IN)
    whole.messages.add(role="assistant", content=REPLY)
    whole.messages.extend(conversation.messages)
    _, reply, behind = _through_template(whole, tokenizer, field).partition(REPLY)
    if not reply or REPLY in behind:
        raise Unsupported("the chat template does not keep a reply as it is", field=field, value="a conversation", limit="text")
    return behind


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
