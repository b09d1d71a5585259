"""Environments of the `verifiers` library, the `MultiTurnEnv` that the environments of its hub are, as ones of ours.

    {"wordle": {"kind": "verifiers", "options": {"id": "wordle", "args": {"num_train_examples": 100}}}}

The library draws a rollout by itself, in a loop that asks a model. Here the student draws, so its loop is taken apart: a reply
goes into the state as the model's response would, and what the library would have sent to the model next is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from preceptor.errors import ConfigurationError
from preceptor.extras import pip_command, require
from preceptor.logs import get_logger
from preceptor.recipes.load import validate
from preceptor_rollout.environments.base import Answer, Message

T = TypeVar("T")
EXTRA = "verifiers"
FIELD = "environments.options"
STUDENT = "student"

log = get_logger(__name__)


class VerifiersOptions(BaseModel):
    """Which environment, and what its own `load_environment` is told."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1)
    args: dict[str, Any] = Field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Played:
    """One rollout: the library's state, and the conversation up to the reply that comes next."""

    state: Any
    conversation: list[Any]


class Verified:
    """An `Environment`. All its rollouts share one event loop, as they do in the library."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._types = import_module("verifiers.types")
        self._client = _nobody()
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="verifiers", daemon=True).start()

    def start(self, task: Mapping[str, Any]) -> Played:
        return self._wait(self._started(task))

    def step(self, state: Played, reply: str) -> Answer:
        return self._wait(self._stepped(state, reply))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _started(self, task: Mapping[str, Any]) -> Played:
        row = {"example_id": 0, "prompt": "", **task}
        if isinstance(row["prompt"], str):
            row["prompt"] = [{"role": "user", "content": row["prompt"]}]
        state = await self._environment.init_state(row, self._client, STUDENT)
        state = await self._environment.setup_state(state) or state
        return Played(state, list(state["prompt"]))

    async def _stepped(self, played: Played, reply: str) -> Answer:
        environment, state = self._environment, played.state
        await environment.add_model_response(state, played.conversation, self._response(reply))
        if await environment.is_completed(state):
            return await self._scored(state)
        messages = _normalised(await environment.get_prompt_messages(state))
        if state.get("final_env_response") is not None and await environment.is_completed(state):
            return await self._scored(state)
        said = messages[len(played.conversation) + 1 :]
        if not said or messages[: len(played.conversation)] != played.conversation:
            raise ValueError("it rewrote the conversation, or said nothing: a rollout here only grows")
        played.conversation = messages
        return Answer(tuple(Message(one["role"], _text(one["content"])) for one in said))

    def _response(self, reply: str) -> Any:
        message = self._types.ResponseMessage(content=reply, finish_reason="stop", is_truncated=False)
        return self._types.Response(id="", created=0, model=STUDENT, message=message)

    async def _scored(self, state: Any) -> Answer:
        environment = self._environment
        await environment.cleanup(state)
        if state.get("error") is not None:
            raise state["error"]
        await environment.rubric.score_rollout(state)
        await environment.rubric.cleanup(state)
        return Answer(reward=float(state["reward"]))


def create(options: Mapping[str, Any]) -> Verified:
    """The factory that the registry names."""
    chosen = validate(VerifiersOptions, dict(options), FIELD)
    library: Any = require("verifiers", extra=EXTRA)
    if not hasattr(library, "MultiTurnEnv"):
        raise ConfigurationError(
            f"verifiers {library.__version__} has no MultiTurnEnv",
            field="environments.kind",
            value=library.__version__,
            limit=">=0.2.1, <0.4",
            hint=pip_command(EXTRA),
        )
    return adapted(library.load_environment(chosen.id, **chosen.args), library.MultiTurnEnv)


def adapted(environment: Any, kind: type[Any]) -> Verified:
    """One of ours, where a student can play it turn by turn and each rollout has a reward of its own."""
    if not isinstance(environment, kind) or environment.requires_group_rollouts:
        why = "it scores rollouts together" if isinstance(environment, kind) else f"it is a {type(environment).__name__}"
        raise ConfigurationError(
            f"this environment cannot be played: {why}", field=f"{FIELD}.id", limit="a MultiTurnEnv that scores each rollout"
        )
    if environment.system_prompt or environment.few_shot:
        log.warning("the student reads no system prompt and no examples of this environment: put them into the recipe's prompts")
    return Verified(environment)


def _nobody() -> Any:
    """A client that asks no model: an environment may keep it, and not use it."""
    base = import_module("verifiers.clients").Client

    def refuse(*_args: Any, **_more: Any) -> NoReturn:
        raise RuntimeError("the rollout service draws: an environment cannot ask the student by itself")

    return type("Nobody", (base,), dict.fromkeys(base.__abstractmethods__, refuse))(None)


def _normalised(messages: Sequence[Any]) -> list[Any]:
    return list(import_module("verifiers.utils.message_utils").maybe_normalize_messages(messages, field_name="messages"))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    raise ValueError("it said something else than text")
