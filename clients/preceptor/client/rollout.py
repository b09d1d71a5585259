"""Clients of the rollout service: prompts in, typed rollouts out.

async with AsyncRolloutClient("127.0.0.1:50052") as rollout:
    rendered = await rollout.render([user_says("859+827")])
    prompts = [Prompt(0, rendered.ids[0], samples=4)]
    async for one in rollout.generate(prompts, GenerateOptions(run="try", max_new_tokens=40)): ...
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Self

from preceptor import wire
from preceptor.client.channel import Target
from preceptor.client.connected import Connected
from preceptor.client.sync import SyncLoop
from preceptor.error_details import error_of
from preceptor.errors import Corrupt, PreceptorError
from preceptor.recipes.behaviour import BehaviourSpec
from preceptor.recipes.environments import MAX_OBSERVATION_TOKENS, MAX_TURNS
from preceptor.types import Ids, ModelInfo, ModelRef, Rollout, RolloutId
from preceptor_proto.v1 import rollout_pb2

SERVICE = "preceptor.v1.Rollout"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Goes through the student's chat template; plain text is given as a `str` instead."""

    messages: tuple[Message, ...]
    add_generation_prompt: bool = True


@dataclass(frozen=True, slots=True)
class AfterReply:
    """Behind a reply of the student, for callers who play the environment: the ids between it and the next reply."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Ids of every item, in order, and the digests of what made them."""

    ids: tuple[Ids, ...]
    tokenizer_sha256: bytes
    template_sha256: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """What one id stands for. Its bytes may end inside a character; a special token's are its name."""

    utf8: bytes
    is_special: bool


@dataclass(frozen=True, slots=True)
class Pieces:
    """For every list of ids its pieces, in order, and the digest of the tokenizer that they are from."""

    lists: tuple[tuple[Piece, ...], ...]
    tokenizer_sha256: bytes


@dataclass(frozen=True, slots=True)
class Prompt:
    """A group: `samples` responses to one prompt. The index is a part of each rollout's name and draws."""

    prompt: int
    context: Ids
    samples: int = 1
    first_sample: int = 0
    attempt: int = 0
    teacher_context: Ids | None = None  # what the teacher of a policy reads instead of `context`
    first_row: int = 0  # response tokens in `context`, where the caller plays the environment: draws go on behind them
    task: Mapping[str, Any] | None = None  # what an environment is told of this prompt


@dataclass(frozen=True, slots=True)
class EnvironmentUse:
    """Who answers between turns, by the operator's name for it, and how far."""

    name: str
    max_turns: int = MAX_TURNS  # replies of the student
    max_observation_tokens: int = MAX_OBSERVATION_TOKENS  # of one answer, as rendered


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What holds for all prompts of a request. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 cut nothing off."""

    run: str
    max_new_tokens: int
    step: int = 0
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    extra_stop_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    student_topk: int = 0
    deterministic: bool = False
    write_logs: bool = False
    job: str = ""
    min_weight_step: int | None = None
    policy: BehaviourSpec | None = None  # None: the student alone
    environment: EnvironmentUse | None = None  # None: one turn


@dataclass(frozen=True, slots=True)
class FailedRollout:
    """A rollout that there is not, and why."""

    id: RolloutId
    error: PreceptorError


Outcome = Rollout | FailedRollout


@dataclass(frozen=True, slots=True)
class RolloutInfo:
    """Who generates, under which weights, what ends a response, and who may answer between turns."""

    student: ModelInfo
    eos_ids: tuple[int, ...]
    environments: tuple[str, ...] = ()


RenderInput = str | Conversation | AfterReply


def user_says(text: str) -> Conversation:
    """The common case: one turn of a user, to be answered."""
    return Conversation((Message("user", text),))


class AsyncRolloutClient(Connected):
    """Made and used inside one event loop. `target` is an address, or a `Target` with key and deadline."""

    def __init__(self, target: str | Target) -> None:
        super().__init__(target)
        self._describe = self.connection.unary(f"{SERVICE}/Describe", rollout_pb2.RolloutDescribeReply)
        self._render = self.connection.unary(f"{SERVICE}/Render", rollout_pb2.RenderReply)
        self._pieces = self.connection.unary(f"{SERVICE}/Pieces", rollout_pb2.PiecesReply)
        self._generate = self.connection.streamed(f"{SERVICE}/Generate", rollout_pb2.GenerateReply)
        self._load_weights = self.connection.unary(f"{SERVICE}/LoadWeights", rollout_pb2.LoadWeightsReply)

    async def describe(self, *, deadline_s: float | None = None) -> RolloutInfo:
        """The student, under the name of the weights that were loaded last."""
        reply = await self.connection.call(self._describe, rollout_pb2.RolloutDescribeRequest(), deadline_s=deadline_s)
        return RolloutInfo(wire.model_info_from_proto(reply.student), tuple(reply.eos_ids), tuple(reply.environments))

    async def render(self, items: Iterable[RenderInput], *, deadline_s: float | None = None) -> Rendered:
        """Token ids of texts, as they stand, and of conversations."""
        request = rollout_pb2.RenderRequest(items=[_item(item) for item in items])
        reply = await self.connection.call(self._render, request, deadline_s=deadline_s)
        ids = tuple(wire.ids_from_proto(one, f"ids[{i}]") for i, one in enumerate(reply.ids))
        return Rendered(ids, reply.tokenizer_sha256, reply.template_sha256)

    async def pieces(self, lists: Iterable[Ids], *, deadline_s: float | None = None) -> Pieces:
        """What the ids of each list stand for: to be read by people, never to be encoded again."""
        request = rollout_pb2.PiecesRequest(ids=[wire.ids_to_proto(ids) for ids in lists])
        reply = await self.connection.call(self._pieces, request, deadline_s=deadline_s)
        return _read_pieces(reply, request)

    async def generate(
        self, prompts: Iterable[Prompt], options: GenerateOptions, *, deadline_s: float | None = None
    ) -> AsyncGenerator[Outcome]:
        """One outcome for every rollout as it ends. Never repeated by itself: only the caller knows which it has."""
        request = generate_request(prompts, options)
        async with aclosing(self.connection.stream(self._generate, request, deadline_s=deadline_s)) as replies:
            async for reply in replies:
                yield read_outcome(reply)

    async def load_weights(self, version: ModelRef, *, deadline_s: float | None = None) -> float:
        """Seconds it took until the engine held the version; its run draws from it from then on."""
        request = rollout_pb2.LoadWeightsRequest(version=rollout_pb2.WeightVersion(model=wire.model_ref_to_proto(version)))
        reply = await self.connection.call(self._load_weights, request, deadline_s=deadline_s)
        return reply.load_s


class RolloutClient:
    """The same for code without an event loop."""

    def __init__(self, target: str | Target) -> None:
        self._loop = SyncLoop("AsyncRolloutClient")
        self._client = self._loop.run(lambda: _made(target))

    def describe(self, *, deadline_s: float | None = None) -> RolloutInfo:
        """As `AsyncRolloutClient.describe`."""
        return self._loop.run(lambda: self._client.describe(deadline_s=deadline_s))

    def render(self, items: Iterable[RenderInput], *, deadline_s: float | None = None) -> Rendered:
        """As `AsyncRolloutClient.render`."""
        return self._loop.run(lambda: self._client.render(items, deadline_s=deadline_s))

    def pieces(self, lists: Iterable[Ids], *, deadline_s: float | None = None) -> Pieces:
        """As `AsyncRolloutClient.pieces`."""
        return self._loop.run(lambda: self._client.pieces(lists, deadline_s=deadline_s))

    def generate(self, prompts: Iterable[Prompt], options: GenerateOptions, *, deadline_s: float | None = None) -> list[Outcome]:
        """All outcomes, sorted by prompt and sample."""
        return self._loop.run(lambda: _collected(self._client.generate(prompts, options, deadline_s=deadline_s)))

    def load_weights(self, version: ModelRef, *, deadline_s: float | None = None) -> float:
        """As `AsyncRolloutClient.load_weights`."""
        return self._loop.run(lambda: self._client.load_weights(version, deadline_s=deadline_s))

    def close(self) -> None:
        """Closes the channel; asking again does nothing."""
        if not self._loop.closed:
            self._loop.run(self._client.close)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def generate_request(prompts: Iterable[Prompt], options: GenerateOptions) -> rollout_pb2.GenerateRequest:
    """The message of one request."""
    request = rollout_pb2.GenerateRequest(
        run=options.run,
        step=options.step,
        seed=options.seed,
        sampling=rollout_pb2.Sampling(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            max_new_tokens=options.max_new_tokens,
            stop=options.stop,
            extra_stop_ids=options.extra_stop_ids,
            ignore_eos=options.ignore_eos,
        ),
        student_topk=options.student_topk,
        deterministic=options.deterministic,
        write_logs=options.write_logs,
        job=options.job,
        min_weight_step=options.min_weight_step,
        policy_json=options.policy.to_json() if options.policy else "",
        environment=_environment(options.environment) if options.environment else None,
    )
    for one in prompts:
        request.prompts.add(
            prompt=one.prompt,
            context=wire.ids_to_proto(one.context),
            samples=one.samples,
            first_sample=one.first_sample,
            attempt=one.attempt,
            teacher_context=None if one.teacher_context is None else wire.ids_to_proto(one.teacher_context),
            first_row=one.first_row,
            task_json="" if one.task is None else json.dumps(one.task),
        )
    return request


def read_outcome(reply: rollout_pb2.GenerateReply) -> Outcome:
    """The typed outcome of one reply."""
    if reply.WhichOneof("outcome") == "failure":
        return FailedRollout(wire.rollout_id_from_proto(reply.failure.id), error_of(reply.failure.error))
    return wire.rollout_from_proto(reply.rollout)


def _environment(use: EnvironmentUse) -> rollout_pb2.EnvironmentUse:
    return rollout_pb2.EnvironmentUse(name=use.name, max_turns=use.max_turns, max_observation_tokens=use.max_observation_tokens)


def _item(item: str | Conversation | AfterReply) -> rollout_pb2.RenderItem:
    if isinstance(item, str):
        return rollout_pb2.RenderItem(text=item)
    opens_reply = isinstance(item, AfterReply) or item.add_generation_prompt
    conversation = rollout_pb2.Conversation(add_generation_prompt=opens_reply)
    for message in item.messages:
        conversation.messages.add(role=message.role, content=message.content)
    if isinstance(item, AfterReply):
        return rollout_pb2.RenderItem(after_reply=conversation)
    return rollout_pb2.RenderItem(conversation=conversation)


def _read_pieces(reply: rollout_pb2.PiecesReply, request: rollout_pb2.PiecesRequest) -> Pieces:
    asked = [len(one.u32le) // 4 for one in request.ids]
    got = [len(one.utf8) for one in reply.pieces]
    if asked != got or any(len(one.special_u8) != len(one.utf8) for one in reply.pieces):
        raise Corrupt("another number of pieces than ids", field="pieces", value=sum(got), limit=sum(asked))
    lists = (tuple(map(Piece, one.utf8, map(bool, one.special_u8))) for one in reply.pieces)
    return Pieces(tuple(lists), reply.tokenizer_sha256)


async def _collected(outcomes: AsyncGenerator[Outcome]) -> list[Outcome]:
    found: Sequence[Outcome] = [outcome async for outcome in outcomes]
    return sorted(found, key=lambda outcome: (outcome.id.prompt, outcome.id.sample))


async def _made(target: str | Target) -> AsyncRolloutClient:
    """Inside the loop that it will live on."""
    return AsyncRolloutClient(target)
