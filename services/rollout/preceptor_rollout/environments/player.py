"""One environment as a rollout sees it: errors with a code, a deadline for each answer, messages as ids."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from preceptor.errors import DeadlineExceeded, EnvironmentFailed
from preceptor.hooks import Hooks
from preceptor.logs import get_logger
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout.calls import RENDER
from preceptor_rollout.environments.aside import Aside, Raised
from preceptor_rollout.environments.base import Answer, Environment, Message
from preceptor_serving.engine_host.channel import EngineChannel

T = TypeVar("T")
Render = Callable[[rollout_pb2.RenderItem, float], Awaitable[common_pb2.TokenIds]]
"""The ids of one item, within so many seconds."""


def render_with(engine: EngineChannel) -> Render:
    """The engine's own rendering."""

    async def render(item: rollout_pb2.RenderItem, left_s: float) -> common_pb2.TokenIds:
        request = rollout_pb2.RenderRequest(items=[item])
        reply = await engine.call(RENDER, request.SerializeToString(), timeout_s=left_s)
        return rollout_pb2.RenderReply.FromString(reply).ids[0]

    return render


log = get_logger(__name__)


class Player:
    """The environment of one request."""

    def __init__(
        self, use: rollout_pb2.EnvironmentUse, environment: Environment, aside: Aside, render: Render, step_s: float, hooks: Hooks
    ) -> None:
        self.max_turns, self.hooks = use.max_turns, hooks
        self._use, self._environment, self._aside, self._render, self._step_s = use, environment, aside, render, step_s

    async def start(self, task: Mapping[str, Any], left_s: float) -> Any:
        """The state of one rollout."""
        return await self._within(lambda: self._environment.start(task), left_s)

    async def step(self, state: Any, reply: str, left_s: float) -> Answer:
        """A checked answer."""
        answer: object = await self._within(lambda: self._environment.step(state, reply), left_s)
        if not isinstance(answer, Answer):
            raise self._failed("what it gave is no Answer", type(answer).__name__)
        if (odd := _odd_messages(answer.messages)) is not None:
            raise self._failed("its messages are no texts", odd, "a tuple of Message, role and content in Unicode characters")
        if (reward := _number(answer.reward)) is None:
            raise self._failed("its reward is no number", type(answer.reward).__name__, "a finite number")
        return Answer(tuple(answer.messages), reward)

    async def observation(self, answer: Answer, last_id: int, eos_ids: tuple[int, ...], left_s: float) -> bytes:
        """The ids, as u32le, that the student reads between its reply and its next one.

        They begin with the end of the reply as the template writes it, unless the student has drawn that very token.
        """
        item = rollout_pb2.RenderItem()
        item.after_reply.add_generation_prompt = True
        for message in answer.messages:
            item.after_reply.messages.add(role=message.role, content=message.content)
        ids = (await self._render(item, left_s)).u32le
        if last_id in eos_ids and ids[:4] == last_id.to_bytes(4, "little"):
            ids = ids[4:]
        if len(ids) // 4 > self._use.max_observation_tokens:
            limit = f"<= max_observation_tokens ({self._use.max_observation_tokens})"
            raise self._failed("its answer is too long", f"{len(ids) // 4} tokens", limit)
        return ids

    async def _within(self, work: Callable[[], T], left_s: float) -> T:
        timeout_s = min(self._step_s, left_s)
        try:
            return await self._aside.run(work, timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"environment {self._use.name} did not answer within {timeout_s:g} s",
                field="environment",
                value=self._use.name,
                limit=f"{timeout_s:g} s",
            ) from error
        except Raised as raised:
            error = raised.__cause__
            log.warning("an environment raised", environment=self._use.name, exc_info=error)
            raise self._failed(f"it raised {type(error).__name__}; the log of the service has the rest") from error

    def _failed(self, why: str, value: object = "", limit: object = "") -> EnvironmentFailed:
        return EnvironmentFailed(
            f"environment {self._use.name}: {why}", field="environment", value=value or self._use.name, limit=limit
        )


def _odd_messages(messages: object) -> str | None:
    """The type of what is no message, or of the part that is no text: foreign code may give anything."""
    if not isinstance(messages, tuple | list):
        return type(messages).__name__
    for one in cast("Sequence[object]", messages):
        if not isinstance(one, Message):
            return type(one).__name__
        for part in cast("tuple[object, ...]", (one.role, one.content)):
            if not isinstance(part, str):
                return type(part).__name__
            if any("\ud800" <= character <= "\udfff" for character in part):
                return "half of a surrogate pair"
    return None


def _number(value: Any) -> float | None:
    """None of what is no finite number."""
    try:
        number = float(value)
    except Exception:  # whatever its own conversion raises
        return None
    return number if math.isfinite(number) and not isinstance(value, str) else None


class Players:
    """The environments of a service."""

    def __init__(
        self, environments: Mapping[str, Environment], render: Render, eos_ids: tuple[int, ...], step_s: float, hooks: Hooks
    ) -> None:
        self.eos_ids, self._hooks = eos_ids, hooks
        self._environments, self._render, self._step_s = environments, render, step_s
        self._aside = Aside()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._environments)

    def of(self, request: rollout_pb2.GenerateRequest) -> Player | None:
        """Who answers in this request; None: nobody, it has one turn."""
        if not request.HasField("environment"):
            return None
        environment = self._environments[request.environment.name]
        return Player(request.environment, environment, self._aside, self._render, self._step_s, self._hooks)
