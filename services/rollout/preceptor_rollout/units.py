"""Units of generation: what the engine draws in one go, fixed by the request and the settings alone.

A unit is a `GenerateRequest` cut down to what runs together, with the version of the weights that draws it. Deterministic
requests have units of one prompt each, so that a token's batch never depends on what else was asked for. Other requests put
prompts together, the longest first and neighbours in length beside each other, so that little is padded. Of these a unit may
hold several batches' worth: the engine runs as many as have room, and others take the places of those that end. A batch is at
most `batch_tokens` tokens of cache at its end; a group that needs more is cut by samples, and a single sequence that needs
more runs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from preceptor import wire
from preceptor.types import ModelRef, RolloutId
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_serving.engine_host.frames import join_name, split_name

Prompt = rollout_pb2.GeneratePrompt


@dataclass(frozen=True, slots=True)
class Unit:
    """One call into the engine."""

    version: ModelRef
    request: rollout_pb2.GenerateRequest

    def to_bytes(self) -> bytes:
        return join_name(wire.model_ref_to_proto(self.version).SerializeToString().hex(), self.request.SerializeToString())

    @classmethod
    def from_bytes(cls, payload: bytes) -> Unit:
        version, request = split_name(payload)
        ref = common_pb2.ModelRef.FromString(bytes.fromhex(version))
        return cls(wire.model_ref_from_proto(ref), rollout_pb2.GenerateRequest.FromString(request))


@dataclass(frozen=True, slots=True)
class UnitSize:
    """Tokens of a batch at its end, and how many batches' worth of sequences a unit may hold."""

    batch_tokens: int
    batches: int = 1

    def tokens(self, request: rollout_pb2.GenerateRequest) -> int:
        """Of a unit. With a teacher in the loop nobody waits in it: its teacher's weights must last for all of it."""
        return self.batch_tokens if request.policy_json else self.batch_tokens * self.batches


def cut_into_units(request: rollout_pb2.GenerateRequest, size: UnitSize) -> list[rollout_pb2.GenerateRequest]:
    """The request in parts that run as one unit each."""
    most = request.sampling.max_new_tokens
    parts = [part for prompt in request.prompts for part in _parts(prompt, most, size.batch_tokens)]
    if request.deterministic:
        return [with_prompts(request, [part]) for part in parts]
    parts.sort(key=prompt_tokens, reverse=True)  # stable: equal lengths stay in the caller's order
    units: list[list[Prompt]] = []
    room_tokens = width_tokens = 0
    for part in parts:
        if part.samples * width_tokens > room_tokens or not units:
            units.append([])
            room_tokens, width_tokens = size.tokens(request), prompt_tokens(part) + most  # the longest comes first
        units[-1].append(part)
        room_tokens -= part.samples * width_tokens
    return [with_prompts(request, unit) for unit in units]


def rollouts_of(request: rollout_pb2.GenerateRequest) -> Iterator[RolloutId]:
    """The name of every rollout, in the order of its sequence in the batch."""
    for prompt in request.prompts:
        for sample in range(prompt.first_sample, prompt.first_sample + prompt.samples):
            yield RolloutId(request.run, request.step, prompt.prompt, sample, prompt.attempt)


def prompt_tokens(prompt: Prompt) -> int:
    """Tokens of the context."""
    return len(prompt.context.u32le) // 4


def most_tokens(request: rollout_pb2.GenerateRequest) -> int:
    """Most tokens that computing this request can take: each prompt once, and every new token."""
    most = request.sampling.max_new_tokens
    return sum(prompt_tokens(prompt) + prompt.samples * most for prompt in request.prompts)


def _parts(prompt: Prompt, max_new_tokens: int, batch_tokens: int) -> Iterator[Prompt]:
    most = max(1, batch_tokens // (prompt_tokens(prompt) + max_new_tokens))
    for done in range(0, prompt.samples, most):
        part = Prompt()
        part.CopyFrom(prompt)
        part.first_sample, part.samples = prompt.first_sample + done, min(most, prompt.samples - done)
        yield part


def with_prompts(request: rollout_pb2.GenerateRequest, prompts: Sequence[Prompt]) -> rollout_pb2.GenerateRequest:
    """The same request for other prompts."""
    unit = rollout_pb2.GenerateRequest()
    unit.CopyFrom(request)
    del unit.prompts[:]
    unit.prompts.extend(prompts)
    return unit
