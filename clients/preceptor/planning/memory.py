"""Memory of the three services before anything is loaded: weights, gradients, optimiser, caches, activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preceptor.learner import RunPlan
from preceptor.planning.asking import tokens_of_bytes
from preceptor.planning.ranges import Range, exactly
from preceptor.planning.shape import DTYPE_BYTES, ModelShape
from preceptor.recipes.schema import ALL_LINEAR, Training

ADAM_MOMENTS = 2
F32_BYTES = 4
ACTIVATIONS = Range(8, 40)
"""Numbers of hidden size that a layer keeps for the way back, for each token; kernels differ."""

INNER_ACTIVATIONS = Range(2, 6)
READOUT_BYTES = Range(16 << 20, 256 << 20)
"""Of one chunk of the head's rows: it does not grow with rows x vocabulary."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory on one device."""

    service: str
    device: str
    what: str
    memory_bytes: Range


@dataclass(frozen=True, slots=True)
class Placed:
    """A model, where it runs and in which numbers."""

    name: str
    shape: ModelShape
    dtype: str = "f32"
    device: str = "cpu"


def parts_of(
    plan: RunPlan,
    student: Placed,
    rollout: Placed,
    teachers: Sequence[Placed],
    heads: Sequence[Placed],
    *,
    batch_tokens: int,
    max_versions: int,
) -> list[Part]:
    """Everything that is in memory at once while a step is under way; `heads`: teachers whose heads the student keeps as well."""
    parts = student_parts(plan, student)
    for one in heads:
        parts.append(Part("student", student.device, f"head of {one.name}", exactly(one.shape.head_bytes(one.dtype))))
    parts.append(Part("rollout", rollout.device, f"weights, {max_versions} versions", _weights(rollout) * max_versions))
    most = min(float(batch_tokens), tokens_of_step(plan).high)
    parts.append(Part("rollout", rollout.device, "cache of a batch", Range(0, rollout.shape.cache_bytes(most, rollout.dtype))))
    for teacher in teachers:
        parts.append(Part("teacher", teacher.device, f"weights of {teacher.name}", _weights(teacher)))
        cached = teacher.shape.cache_bytes(tokens_of_step(plan).high, teacher.dtype)
        parts.append(Part("teacher", teacher.device, f"cache of {teacher.name}", Range(0, cached)))
        parts.append(Part("teacher", teacher.device, f"readout of {teacher.name}", READOUT_BYTES))
    return parts


def student_parts(plan: RunPlan, student: Placed) -> list[Part]:
    """Training: what is trained has an f32 master, an f32 gradient and two f32 moments."""
    training = plan.compiled.recipe.training
    shape, width = student.shape, DTYPE_BYTES[training.precision]
    trained = _trained(training, shape)
    beside = training.lora is not None or training.precision != "f32"  # an f32 adapter, or f32 masters
    weights = exactly(width * shape.parameters) + trained * (F32_BYTES * beside)
    tokens = _micro_batch_tokens(plan)
    kept = ACTIVATIONS * (shape.hidden * shape.layers) + INNER_ACTIVATIONS * (max(shape.inner, shape.expert_inner) * shape.layers)
    return [
        Part("student", student.device, _weights_told(training), weights),
        Part("student", student.device, "gradients", trained * F32_BYTES),
        Part("student", student.device, "AdamW's moments", trained * (ADAM_MOMENTS * F32_BYTES)),
        Part("student", student.device, "activations of a micro-batch", kept * tokens * width),
        Part("student", student.device, "readout", READOUT_BYTES),
    ]


def _trained(training: Training, shape: ModelShape) -> Range:
    """Numbers that are trained. Which layers have the names of a recipe is not known before the model is loaded."""
    if training.lora is None:
        return exactly(shape.parameters)
    most = shape.adapter_parameters(training.lora.rank)
    return Range(most if training.lora.target_modules == (ALL_LINEAR,) else 0, most)


def tokens_of_step(plan: RunPlan) -> Range:
    """Tokens of all sequences of a step, prompts included."""
    longest = max(tokens_of_bytes(len(prompt.encode())).high for prompt in plan.prompts)
    shortest = min(tokens_of_bytes(len(prompt.encode())).low for prompt in plan.prompts)
    sources = [slot.source for slot in plan.slots]
    return Range(
        plan.per_step * sum(source.samples_per_prompt * (shortest + 1) for source in sources),
        plan.per_step
        * sum(source.samples_per_prompt * (longest + source.longest + source.observed_tokens) for source in sources),
    )


def _micro_batch_tokens(plan: RunPlan) -> Range:
    """A longer sequence goes alone, so the budget may be exceeded by one."""
    step, budget = tokens_of_step(plan), plan.compiled.recipe.schedule.micro_batch_tokens
    longest = max(slot.source.longest + slot.source.observed_tokens for slot in plan.slots) + max(
        tokens_of_bytes(len(prompt.encode())).high for prompt in plan.prompts
    )
    return Range(min(budget, step.low), min(max(budget, longest), step.high))


def _weights(model: Placed) -> Range:
    return exactly(DTYPE_BYTES[model.dtype] * model.shape.parameters)


def _weights_told(training: Training) -> str:
    if training.lora:
        return f"weights in {training.precision}, adapters of rank {training.lora.rank}"
    return "weights in f32" if training.precision == "f32" else "weights in bf16 and their f32 masters"
