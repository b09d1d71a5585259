"""Teachers that are reached through a provider's HTTP interface: text in, text out, no weights and no logits here."""

from preceptor_teacher.api.calls import NOBODY, Payer, Spent
from preceptor_teacher.api.chat import ChatClient
from preceptor_teacher.api.messages import ChatReply, Message
from preceptor_teacher.api.options import ApiOptions, read_api_options

__all__ = ["NOBODY", "ApiOptions", "ChatClient", "ChatReply", "Message", "Payer", "Spent", "read_api_options"]
