"""A recipe, field by field: what it trains on, who writes, who judges, and what is minimised.

Every field reaches behaviour: fields of `terms` reach the loss through `compile_recipe`; `optimizer` and `training` reach the
student in `OpenRun`; the rest is for the learner, and each docstring says exactly what it does with it. Unknown names are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from preceptor.recipes.alarms import Alarms, EarlyStop
from preceptor.recipes.copies import Copy, as_copy
from preceptor.recipes.environments import EnvironmentChoice
from preceptor.recipes.schedules import FROZEN, AtLeastOne, NotNegative, Number
from preceptor.recipes.views import Feedback, check_view

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Normaliser = Literal["rows", "sequences", "sequence_means", "pairs"]
STUDENT = "student"
ALL_LINEAR = "all-linear"


class OpUse(BaseModel):
    """An op by name, and its parameters where they differ from the op's own defaults."""

    model_config = FROZEN

    op: NonEmpty
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


def _as_op_use(value: object) -> object:
    return {"op": value} if isinstance(value, str) else value


Slot = Annotated[OpUse, BeforeValidator(_as_op_use, json_schema_input_type=str | OpUse)]
"""`reverse_kl`, or `{op: jsd, params: {beta: 0.3}}`."""


class Use(OpUse):
    """An op in a slot that may read a signal of its own."""

    teacher: Name | None = None
    """Whose signal this op reads; unset: the term's teacher."""

    signal: Slot | None = None
    """What it reads; unset: the term's signal where the op can read that, else the one parameterless signal that it reads."""


def _as_uses(value: object) -> object:
    if value is None:
        return ()
    several = cast(Sequence[object], value) if isinstance(value, list | tuple) else (value,)
    return tuple(_as_op_use(one) for one in several)


Uses = Annotated[tuple[Use, ...], BeforeValidator(_as_uses)]
"""One op, or a list of them that work in order; unset or null: none."""


class Data(BaseModel):
    """The prompts to train on: a file of JSON lines, read in its order, from the start again when it ends."""

    model_config = FROZEN

    path: NonEmpty
    """In a recipe file: relative to that file. In an override: relative to the working directory."""

    prompt_field: NonEmpty = "prompt"
    """The key of each line that holds the prompt; it becomes one user message."""

    answer_field: NonEmpty | None = None
    """The key of each line that holds the right answer, which graders are told and the student never reads; unset: nobody is."""


class PolicyUse(OpUse):
    """A behaviour policy by name, its parameters where they differ from its defaults, and whom it asks."""

    teacher: Name | None = None
    """A name under `teachers`: who has a say in the next token; unset for policies without one."""


class Source(BaseModel):
    """One way in which rollouts come about. Every source answers every prompt of a step."""

    model_config = FROZEN

    writer: Name = STUDENT
    """`student`, or a name under `teachers`: whose tokens the rollouts are."""

    policy: Annotated[PolicyUse | None, BeforeValidator(_as_op_use, json_schema_input_type=str | PolicyUse | None)] = None
    """How the tokens of the student's rollouts come about where a teacher has a say in them; unset: the student alone."""

    samples_per_prompt: int = Field(default=1, ge=1, le=1024)
    """Rollouts of each prompt; together they are the prompt's group."""

    max_response_tokens: int = Field(ge=1, le=1_048_576)
    """A rollout without an end-of-sequence token stops after this many tokens, over all turns; then it counts as truncated."""

    horizon: AtLeastOne | None = None
    """Only the first so many tokens of a rollout are drawn, scored and trained on; a ramp makes rollouts longer, or shorter,
    from step to step. Parts of a token are dropped; a rollout that ends there counts as truncated.
    Unset: `max_response_tokens`."""

    stop: tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] = Field(default=(), max_length=64)
    """A rollout ends early with the token that completes one of these texts; such a rollout does not count as truncated.
    With an environment only a turn ends there."""

    environment: EnvironmentChoice | None = None
    """Who answers the student between turns, and gives each rollout a reward; unset: nobody, a rollout has one turn."""


class Teacher(BaseModel):
    """A model that scores, grades or writes."""

    model_config = FROZEN

    model: NonEmpty
    """The name or alias under which the teacher service serves it."""

    student_copy: Annotated[Copy | None, BeforeValidator(as_copy, json_schema_input_type=str | Copy | None)] = None
    """Weights of the run itself, loaded by that service from where the student publishes them; unset: what `model` names."""

    view: Annotated[NonEmpty, AfterValidator(check_view)] | None = None
    """What this teacher reads instead of the prompt, as one user message: a text with names of fields of the data in braces.
    The response stays the student's; unset: the prompt."""

    feedback: Feedback | None = None
    """Where the view shows finished rollouts: who judges them. Scores are then asked for once the group has its verdicts."""

    payload: Literal["f32", "f16", "u8"] = "f32"
    """How lists of log-probabilities travel: f16 and u8 are smaller and rounded within a stated bound."""


class Term(BaseModel):
    """One weighted part of the loss."""

    model_config = FROZEN

    on: Name
    """The source whose rollouts this term reads."""

    objective: Slot
    """What is minimised on each row."""

    teacher: Name | None = None
    """Whose signal it is; unset for objectives that read none."""

    signal: Slot | None = None
    """What that teacher is asked for."""

    token_weights: Uses = ()
    """Each row's loss is multiplied by these, in order; detached. Some leave rows out instead."""

    sample_weights: Uses = ()
    """Each rollout's loss is multiplied by these."""

    advantage: Uses = ()
    """For policy gradients: the detached weight of each drawn token. Advantages add up, transforms change what stands before."""

    when: Uses = ()
    """Only rollouts that meet all of these; the others are not counted anywhere."""

    pairs: Annotated[Use, BeforeValidator(_as_op_use)] | None = None
    """For preferences: which rollouts are held against each other."""

    weight: NotNegative = 1.0
    """The term is multiplied by this."""

    normaliser: Normaliser = "rows"
    """What the sum over rows is divided by, counted over the whole step whatever its micro-batches: `rows` that count;
    `sequences` with at least one of them; `sequence_means`: the same, after each was divided by its own rows; `pairs`."""

    name: Name | None = None
    """Name in metrics; unset: the objective's name."""


class Optimizer(BaseModel):
    """AdamW, one update a step."""

    model_config = FROZEN

    learning_rate: NotNegative
    """A number, or a ramp over steps."""

    warmup_steps: int = Field(default=0, ge=0)
    """The rate is multiplied by step / warmup_steps until that reaches 1."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay of the running mean of gradients and of their squares."""

    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the running mean square."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of every weight, times the rate."""

    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; null: never."""


def _as_names(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(cast(Sequence[object], value)) if isinstance(value, list) else value


Names = Annotated[tuple[NonEmpty, ...], Field(min_length=1), BeforeValidator(_as_names)]
"""One name, or a list of them."""


class Lora(BaseModel):
    """Low-rank adapters beside frozen weights; only they are trained, kept and published. No dropout: what drew trains."""

    model_config = FROZEN

    rank: int = Field(default=16, ge=1, le=1024)
    """Inner size of each adapter."""

    alpha: float = Field(default=32.0, gt=0, le=1e6)
    """An adapter's output is multiplied by alpha / rank."""

    target_modules: Names = (ALL_LINEAR,)
    """Linear layers that get one: `all-linear`, which leaves the head out, or the ends of their names, such as `q_proj`."""


class Training(BaseModel):
    """Which weights are trained, in which numbers, and how sequences lie in a forward pass."""

    model_config = FROZEN

    precision: Literal["f32", "bf16"] = "f32"
    """f32: everything. bf16: weights and forward pass in bf16, beside f32 masters, gradient sums and optimiser state;
    adapters are f32 under either."""

    lora: Lora | None = None
    """Adapters instead of every weight; unset: every weight."""

    layout: Literal["padded", "packed"] = "padded"
    """padded: one sequence a row. packed: short ones share a row, and none reads another; models that cannot do that are
    refused."""


class Steps(BaseModel):
    """How long, in which portions, and how often what is made durable."""

    model_config = FROZEN

    steps: int = Field(ge=1)
    """Optimiser steps of the run."""

    prompts_per_step: int = Field(ge=1, le=1_048_576)
    """Prompts that each step takes from the data."""

    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """Keys every draw of the run."""

    deterministic: bool = False
    """Scores and draws that are equal to the bit whatever arrives when; refused by engines that cannot."""

    micro_batch_tokens: int = Field(default=16_384, ge=1)
    """Most tokens that the student holds in one forward pass, padding included: of rows as long as the longest sequence, one a
    sequence or, packed, as few as first fit gives. A longer sequence goes alone."""

    publish_every_steps: int = Field(default=1, ge=1)
    """The rollout service gets new weights after every so many steps; 1 is strictly on-policy."""

    checkpoint_every_steps: int = Field(default=10, ge=1)
    """A step is made durable after every so many, and the last one always."""

    staleness: int = Field(default=0, ge=0, le=64)
    """How many published versions older than the newest the weights may be that drew what a step trains on. 0: strictly
    on-policy; from 1 on, rollouts of the next steps are drawn while a step is trained."""

    ahead_steps: int | None = Field(default=None, ge=0, le=64)
    """How many steps drawing may run ahead of training; unset: `staleness`, and nothing ever gets older than that."""

    stale_weight: float = Field(default=0.0, ge=0, lt=1)
    """Rollouts that got older all the same: 0 drops them and draws again; else their weight is multiplied by this for each
    version beyond the bound."""

    failed_rollouts_per_step: int = Field(default=0, ge=0)
    """So many rollouts of a step may fail for good, in drawing, scoring or grading; they are skipped. One more ends the run."""

    early_stop: EarlyStop | None = None
    """Unset: the run takes all its steps."""

    @property
    def ahead(self) -> int:
        """How many steps drawing may run ahead of training."""
        return self.staleness if self.ahead_steps is None else self.ahead_steps


class Evaluation(BaseModel):
    """Greedy answers to held-out prompts, judged against known answers."""

    model_config = FROZEN

    path: NonEmpty
    """A file of JSON lines; relative like `data.path`."""

    prompt_field: NonEmpty = "prompt"
    """The key of each line that holds the prompt."""

    answer_field: NonEmpty = "answer"
    """The key of each line that holds the right answer."""

    match: Literal["last_word", "exact"] = "last_word"
    """last_word: the last word of the response is the answer; exact: the whole response is, spaces around it aside."""

    prompts: int = Field(default=256, ge=1)
    """How many lines are asked, from the first on."""

    every_steps: int = Field(default=10, ge=1)
    """Evaluated before the first step, after every so many, and after the last."""

    max_response_tokens: int = Field(ge=1, le=1_048_576)
    """Longest response."""

    source: Name | None = None
    """Answered as in this source: with its stop texts and its environment. Unset: one turn, and no stop texts."""


class About(BaseModel):
    """Where the method comes from and how far its formula was checked; `preceptor recipes` shows it."""

    model_config = FROZEN

    tier: Literal["source-checked", "reading", "sketch"]
    """source-checked: against the authors' code or the numbers that they state; reading: against a full reading of the paper;
    sketch: against a summary."""

    source: NonEmpty
    """The paper, and the code where it was read."""

    checked: NonEmpty
    """What the formula was held against, and by which test."""

    differs: tuple[NonEmpty, ...] = ()
    """What is done otherwise here than there, one sentence each."""


class Recipe(BaseModel):
    """A method, complete: `load_recipe` reads one, `compile_recipe` checks it and turns it into what the services are told."""

    model_config = FROZEN

    version: Literal[1]
    """Version of this schema."""

    name: Name
    """Name of the method."""

    summary: NonEmpty
    """One sentence: what it does and where it comes from."""

    about: About | None = None
    """How far the method was checked against its source; nothing is computed from it."""

    temperature: float = Field(default=1.0, gt=0, le=1000)
    """Divides the logits on all three sides: where the student draws, where the teacher scores, and in the loss."""

    data: Data
    sources: dict[Name, Source] = Field(min_length=1)
    teachers: dict[Name, Teacher] = Field(default_factory=dict[str, Teacher])
    terms: tuple[Term, ...] = Field(min_length=1)
    optimizer: Optimizer
    training: Training = Training()
    schedule: Steps
    evaluation: Evaluation | None = None
    alarms: Alarms = Alarms()


__all__ = [
    "STUDENT",
    "About",
    "Data",
    "Evaluation",
    "Lora",
    "Normaliser",
    "Number",
    "OpUse",
    "Optimizer",
    "Recipe",
    "Slot",
    "Source",
    "Steps",
    "Teacher",
    "Term",
    "Training",
    "Use",
]
