"""A judge that answers by a script, and a worker in a hurry."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from preceptor_teacher.api import ChatReply
from preceptor_teacher.worker import WorkerPolicy

QUICK = WorkerPolicy(heartbeat_s=0.05, reclaim_s=0.05, wait_ready_s=0.05, retry_pause_s=0.01, max_pause_s=0.05)


class Judge:
    """Answers by a script: texts, or functions of the number that the answer must carry."""

    def __init__(self, *replies: str | Callable[[str], str], **fields) -> None:
        self.replies, self.fields, self.asked = list(replies), fields, []

    async def __call__(self, messages: Any, schema: Any = None) -> ChatReply:
        self.asked.append(messages)
        reply = self.replies.pop(0)
        text = reply if isinstance(reply, str) else reply(schema["properties"]["request"]["const"])
        known = {"finish_reason": "stop", "refused": False, "calls": 1, "prompt_tokens": 7, "completion_tokens": 3}
        return ChatReply(text=text, **{**known, **self.fields})


def answers(**members: object) -> Callable[[str], str]:
    """A reply with these members about whatever request it is."""
    return lambda number: json.dumps({"request": number, **members})


def says(score: object) -> Callable[[str], str]:
    return answers(score=score)
