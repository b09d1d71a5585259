"""The friendly door: text or ids in, text and numbers out, over the same calls as gRPC.

POST /v1/render    {"items": [{"text": "..."} | {"messages": [{"role": "user", "content": "..."}]}]}
POST /v1/generate  {"prompts": [{"text": ...} | {"messages": ...} | {"ids": [...]}], "samples": 2, "max_new_tokens": 32}
                   and, for several turns, "environment": {"name": "sums"} with a "task" beside each prompt
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from preceptor import limits, wire
from preceptor.error_details import error_body, error_of
from preceptor.recipes.environments import MAX_OBSERVATION_TOKENS, MAX_TURNS
from preceptor.types import Rollout
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_serving.frame.call import Call

if TYPE_CHECKING:
    from preceptor_rollout.service import RolloutService

REST_RUN = "rest"  # draws from the student of the settings, unless a run of this name published weights


U32 = Annotated[int, Field(ge=0, lt=1 << 32)]
U64 = Annotated[int, Field(ge=0, lt=1 << 64)]


class Body(BaseModel):
    """Unknown fields are mistakes, and so are numbers that arrive as text, fractions or truth values."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Message(Body):
    role: str = Field(min_length=1)
    content: str


class TextOrMessages(Body):
    """Exactly one of them."""

    text: str | None = None
    """Encoded as it stands."""

    messages: list[Message] | None = None
    """A conversation, through the student's chat template."""

    add_generation_prompt: bool = True

    def to_item(self) -> rollout_pb2.RenderItem:
        if self.text is not None:
            return rollout_pb2.RenderItem(text=self.text)
        conversation = rollout_pb2.Conversation(add_generation_prompt=self.add_generation_prompt)
        for message in self.messages or ():
            conversation.messages.add(role=message.role, content=message.content)
        return rollout_pb2.RenderItem(conversation=conversation)

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        given = [name for name in ("text", "messages", "ids") if getattr(self, name, None) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of text, messages" + (", ids" if hasattr(self, "ids") else ""))
        return self


class RenderBody(Body):
    items: list[TextOrMessages] = Field(min_length=1)


class Prompt(TextOrMessages):
    ids: list[U32] | None = None
    """Token ids."""

    task: dict[str, Any] | None = None
    """What the environment is told of this prompt."""


class EnvironmentBody(Body):
    """Who answers the student between turns."""

    name: str
    """One of those that the operator has set up."""

    max_turns: U32 = MAX_TURNS
    """Replies of the student."""

    max_observation_tokens: U32 = MAX_OBSERVATION_TOKENS
    """Of one answer, as rendered."""


class GenerateBody(Body):
    """Defaults are those of the protocol: temperature 1, nothing truncated."""

    prompts: list[Prompt] = Field(min_length=1)
    samples: U32 = 1
    max_new_tokens: U32
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: U32 = 0
    stop: list[str] = []
    ignore_eos: bool = False
    seed: U64 = 0
    step: U64 = 0
    run: str = REST_RUN
    """Draws from the newest weights that this run published."""

    job: str = ""
    deterministic: bool = False
    environment: EnvironmentBody | None = None
    """Unset: one turn, and nobody answers."""

    def to_request(self, contexts: Sequence[common_pb2.TokenIds]) -> rollout_pb2.GenerateRequest:
        """The protocol's request, checked against its limits."""
        sampling = rollout_pb2.Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            ignore_eos=self.ignore_eos,
        )
        prompts = [
            rollout_pb2.GeneratePrompt(
                prompt=index,
                context=context,
                samples=self.samples,
                task_json="" if prompt.task is None else json.dumps(prompt.task),
            )
            for index, (context, prompt) in enumerate(zip(contexts, self.prompts, strict=True))
        ]
        request = rollout_pb2.GenerateRequest(
            run=self.run,
            step=self.step,
            prompts=prompts,
            sampling=sampling,
            seed=self.seed,
            job=self.job,
            deterministic=self.deterministic,
            environment=rollout_pb2.EnvironmentUse(**self.environment.model_dump()) if self.environment else None,
        )
        limits.check(request)
        return request


def rollout_router(service: RolloutService) -> APIRouter:
    """The routes of one service."""
    router = door_router("/v1")

    @router.post("/render", tags=["rollout"])
    @needs(Scope.GENERATE)
    async def render(body: RenderBody, call: CurrentCall) -> dict[str, Any]:
        """Token ids of conversations or texts, and the digests of tokenizer and template."""
        reply = await _render(service, body.items, call)
        return {
            "ids": [wire.ids_from_proto(ids).tolist() for ids in reply.ids],
            "tokenizer_sha256": reply.tokenizer_sha256.hex(),
            "template_sha256": reply.template_sha256.hex(),
        }

    @router.post("/generate", tags=["rollout"])
    @needs(Scope.GENERATE)
    async def generate(body: GenerateBody, call: CurrentCall) -> dict[str, Any]:
        """`samples` responses to every prompt, sorted by prompt and sample; a failed one has an error instead of ids."""
        request = body.to_request(await _contexts(service, body.prompts, call))
        async with aclosing(service.generate(request, call)) as replies:
            rollouts = [_told(reply) async for reply in replies]
        return {"rollouts": sorted(rollouts, key=lambda one: (one["prompt"], one["sample"]))}

    return router


async def _render(service: RolloutService, items: Sequence[TextOrMessages], call: Call) -> rollout_pb2.RenderReply:
    request = rollout_pb2.RenderRequest(items=[item.to_item() for item in items])
    limits.check(request)
    return await service.render(request, call)


async def _contexts(service: RolloutService, prompts: Sequence[Prompt], call: Call) -> list[common_pb2.TokenIds]:
    """The ids of every prompt; those that are not ids yet are rendered in one call."""
    written = [prompt for prompt in prompts if prompt.ids is None]
    rendered = iter((await _render(service, written, call)).ids if written else ())
    return [next(rendered) if prompt.ids is None else wire.ids_to_proto(prompt.ids) for prompt in prompts]


def _told(reply: rollout_pb2.GenerateReply) -> dict[str, Any]:
    if reply.WhichOneof("outcome") == "failure":
        rollout = reply.failure.id
        return {"prompt": rollout.prompt, "sample": rollout.sample, "error": error_body(error_of(reply.failure.error))}
    rollout = wire.rollout_from_proto(reply.rollout)
    return {
        "prompt": rollout.id.prompt,
        "sample": rollout.id.sample,
        "text": rollout.text,
        "ids": rollout.sequence.response_ids.tolist(),
        "context_ids": rollout.sequence.segments[0].ids.tolist(),
        "finish_reason": rollout.finish_reason.name.lower(),
        "logprob_policy": _numbers(rollout, "logprob_policy"),
        "logprob_behaviour": _numbers(rollout, "logprob_behaviour"),
        "weight_step": rollout.model.step,
        **_played(rollout),
    }


def _played(rollout: Rollout) -> dict[str, Any]:
    """What there is of an environment: its reward, and who said what."""
    if rollout.reward is None:
        return {}
    segments = [{"kind": segment.kind, "ids": segment.ids.tolist()} for segment in rollout.sequence.segments]
    return {"reward": rollout.reward, "segments": segments}


def _numbers(rollout: Rollout, column: str) -> list[float | str | None] | None:
    """JSON has no NaN and no infinity: null is missing, "-inf" is probability zero."""
    values = getattr(rollout.behaviour, column)
    return None if values is None else [_number(value) for value in np.asarray(values).tolist()]


def _number(value: float) -> float | str | None:
    return value if math.isfinite(value) else None if math.isnan(value) else "-inf"
