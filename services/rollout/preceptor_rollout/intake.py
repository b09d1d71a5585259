"""Everything that is refused before any engine time is spent, in one place: each refusal names field, value and limit."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor import wire
from preceptor.errors import InvalidArgument, TooLarge, Unsupported
from preceptor.names import U32_END
from preceptor.types import ModelInfo
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.environments.intake import check_turns, observed_tokens
from preceptor_rollout.units import Prompt


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an operator allows, beside what the engine can do."""

    max_rollouts: int
    max_sequence_tokens: int
    environments: tuple[str, ...] = ()


def check_request(request: rollout_pb2.GenerateRequest, info: ModelInfo, bounds: Bounds, *, has_logs: bool) -> None:
    """Returns when every rollout of the request can be drawn."""
    _check_whole(request, info, has_logs=has_logs)
    _check_sampling(request.sampling, info)
    rollouts = sum(prompt.samples for prompt in request.prompts)
    if rollouts > bounds.max_rollouts:
        raise TooLarge(
            f"{rollouts} rollouts in one request; the limit is {bounds.max_rollouts}",
            field="prompts",
            value=f"{rollouts} rollouts",
            limit=f"<= {bounds.max_rollouts} rollouts",
            hint="send several smaller requests",
        )
    check_turns(request, info, bounds.environments)
    longest = min(bounds.max_sequence_tokens, info.capabilities.max_sequence_tokens)
    names: dict[tuple[int, int], int] = {}
    for index, prompt in enumerate(request.prompts):
        new_tokens = request.sampling.max_new_tokens - prompt.first_row + observed_tokens(request)
        _check_prompt(prompt, f"prompts[{index}]", info, longest, new_tokens)
        _check_names(prompt, index, names)


def _check_whole(request: rollout_pb2.GenerateRequest, info: ModelInfo, *, has_logs: bool) -> None:
    if request.deterministic and not info.capabilities.deterministic:
        raise Unsupported(
            f"deterministic mode needs the hf engine in f32 on a CPU; {info.model.name} runs otherwise",
            field="deterministic",
            value=True,
            limit=f"not with {info.engine} in {info.dtype} here",
        )
    if request.write_logs and not has_logs:
        raise Unsupported(
            "this service has no queue to write response logs to",
            field="write_logs",
            value=True,
            limit=False,
            hint="start it with --redis-url",
        )
    if request.student_topk > info.tokenizer_size:
        _refuse("student_topk", request.student_topk, f"<= {info.tokenizer_size}, the student's vocabulary")
    _check_word(request.step, "step")


def _check_sampling(sampling: rollout_pb2.Sampling, info: ModelInfo) -> None:
    for index, stop in enumerate(sampling.stop):
        if not stop:
            _refuse(f"sampling.stop[{index}]", "an empty text", "a text")
    for index, token in enumerate(sampling.extra_stop_ids):
        if token >= info.tokenizer_size:
            _refuse(f"sampling.extra_stop_ids[{index}]", token, f"< {info.tokenizer_size}")


def _check_prompt(prompt: Prompt, field: str, info: ModelInfo, longest: int, new_tokens: int) -> None:
    ids = wire.ids_from_proto(prompt.context, f"{field}.context")
    if not len(ids):
        _refuse(f"{field}.context", "0 tokens", ">= 1 token: nothing would predict the first one")
    if len(ids) + new_tokens > longest:
        raise TooLarge(
            f"{field}: {len(ids)} prompt tokens and {new_tokens} new ones exceed {longest}",
            field=f"{field}.context" if len(ids) >= longest else "sampling.max_new_tokens",
            value=f"{len(ids)} + {new_tokens} tokens",
            limit=f"<= {longest} tokens",
            hint="ask for fewer new tokens, or shorten the prompt",
        )
    worst = int(ids.max())
    if worst >= info.tokenizer_size:
        _refuse(f"{field}.context", worst, f"ids < {info.tokenizer_size}")
    if prompt.HasField("teacher_context") and not prompt.teacher_context.u32le:
        _refuse(f"{field}.teacher_context", "0 tokens", ">= 1 token, or no such field")
    _check_word(prompt.prompt, f"{field}.prompt")
    _check_word(prompt.first_sample + prompt.samples - 1, f"{field}.first_sample")


def _check_names(prompt: Prompt, index: int, names: dict[tuple[int, int], int]) -> None:
    """Two rollouts of one name would be two contents of one log."""
    for sample in range(prompt.first_sample, prompt.first_sample + prompt.samples):
        before = names.setdefault((prompt.prompt, sample), index)
        if before != index:
            _refuse(f"prompts[{index}]", f"prompt {prompt.prompt}, sample {sample}", f"once; prompts[{before}] has it")


def _check_word(value: int, field: str) -> None:
    """Draws are counted in 32-bit words."""
    if value >= U32_END:
        _refuse(field, value, f"< {U32_END}")


def _refuse(field: str, value: object, limit: str) -> None:
    raise InvalidArgument(f"{field} is {value}; the limit is {limit}", field=field, value=value, limit=limit)
