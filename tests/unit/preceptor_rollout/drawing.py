"""Requests to a generation engine, and the rollouts that come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.tiny import task
from examples.tiny.decode import MODEL_DIRS
from examples.tiny.tokenizer import prompt_ids
from preceptor import wire
from preceptor.types import ModelRef, Rollout
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.engine import GenerationEngine, create
from preceptor_rollout.units import Unit, UnitSize, cut_into_units

SIZE = UnitSize(32_768, 4)
Names = dict[tuple[int, int], Rollout]


def engine_over(folder: Path = MODEL_DIRS["student"], **options: Any) -> GenerationEngine:
    return create({"name": "tiny", "folder": folder, **options})


def tiny_prompts(count: int, first: int = 0) -> dict[int, list[int]]:
    """Index in the data -> ids."""
    problems = task.load("distil")[first : first + count]
    return {first + i: prompt_ids(problem.prompt) for i, problem in enumerate(problems)}


def request(
    prompts: Mapping[int, Sequence[int]], samples: int = 2, sampling: Mapping[str, Any] | None = None, **fields: Any
) -> rollout_pb2.GenerateRequest:
    """`samples` responses of at most 24 tokens to each prompt, seed 7, step 3."""
    drawn_by = rollout_pb2.Sampling(**{"max_new_tokens": 24, **(sampling or {})})
    message = rollout_pb2.GenerateRequest(**{"run": "r", "step": 3, "seed": 7, "sampling": drawn_by, **fields})
    for prompt, ids in prompts.items():
        message.prompts.add(prompt=prompt, context=wire.ids_to_proto(ids), samples=samples)
    return message


def draw(
    engine: GenerationEngine, message: rollout_pb2.GenerateRequest, version: ModelRef | None = None, size: UnitSize = SIZE
) -> Names:
    """All rollouts of a request by (prompt, sample), unit by unit."""
    version = version or engine.describe()[0].model
    found: dict[tuple[int, int], list[chunks.Chunk]] = {}
    for unit in cut_into_units(message, size):
        for reply in engine.methods()[GENERATE](Unit(version, unit).to_bytes()):
            for chunk in chunks.from_bytes(reply):
                found.setdefault((chunk.id.prompt, chunk.id.sample), []).append(chunk)
    contexts = {prompt.prompt: prompt.context for prompt in message.prompts}
    return {
        name: wire.rollout_from_proto(chunks.joined(parts, chunks.turn_of(parts, contexts[name[0]])))
        for name, parts in found.items()
    }


def bits(rollout: Rollout) -> tuple[object, ...]:
    """Everything about a rollout that deterministic mode promises."""
    lists = rollout.student_topk
    columns = (rollout.behaviour.logprob_policy, rollout.behaviour.logprob_behaviour, rollout.behaviour.versions)
    return (
        rollout.sequence.ids.tolist(),
        tuple(column.tobytes() for column in columns if column is not None),
        None if lists is None else lists.ids.tolist(),
        rollout.finish_reason,
        rollout.text,
    )
