"""Teachers that are reached through a provider's HTTP interface: text in, text out, no weights and no logits here."""

from preceptor_teacher.api.chat import ChatClient, ChatReply, Message
from preceptor_teacher.api.options import ApiOptions, read_api_options

__all__ = ["ApiOptions", "ChatClient", "ChatReply", "Message", "read_api_options"]
