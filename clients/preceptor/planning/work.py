"""What a run draws, scores, trains on and asks of providers, in tokens and calls; pure functions of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preceptor.learner import RunPlan
from preceptor.learner.plan import Slot
from preceptor.planning.asking import BYTES_PER_TOKEN, Asking, Subject, asking_of, tokens_of_bytes
from preceptor.planning.like import Observed
from preceptor.planning.ranges import NOTHING, Range
from preceptor.recipes.ops.reward import COMPARING


@dataclass(frozen=True, slots=True)
class Graded:
    """What one teacher behind an API is asked over the whole run."""

    teacher: str
    model: str
    asking: Asking


@dataclass(frozen=True, slots=True)
class Work:
    """Of a whole run. Tokens that are drawn and rows that are scored count response tokens; `observed` are those that
    environments say between turns, and `turns` the replies to them and to prompts, where there are environments at all."""

    steps: int
    rollouts: int
    prompt_tokens: Range
    drawn: Range
    observed: Range
    scored: Range
    trained: Range
    evaluated: Range
    graded: tuple[Graded, ...]
    turns: Range = NOTHING


def work_of(plan: RunPlan, like: Observed | None = None) -> Work:
    """`like`: what an earlier run says about lengths and calls."""
    response_tokens = like.response_range if like else None
    prompts = plan.per_step * plan.steps
    prompt_tokens = tokens_of_bytes(_mean_bytes([plan.prompts[prompt] for prompt in _taken(plan)]))
    drawn = observed = scored = trained = turns = NOTHING
    for slot in plan.slots:
        rollouts = prompts * slot.source.samples_per_prompt
        tokens, said = _responses(slot, response_tokens) * rollouts, Range(0, slot.source.observed_tokens) * rollouts
        drawn, observed = drawn + tokens, observed + said
        scored += tokens * len(slot.scorers)
        trained += tokens + said + prompt_tokens * rollouts
        turns += _turns(slot) * rollouts
    return Work(
        plan.steps,
        prompts * plan.samples,
        prompt_tokens * prompts,
        drawn,
        observed,
        scored,
        trained,
        _evaluated(plan, response_tokens),
        tuple(_graded(plan, slot, name, like) for slot in plan.slots for name in _asking(slot)),
        turns,
    )


def _responses(slot: Slot, response_tokens: Range | None) -> Range:
    most = slot.source.longest
    return Range(1, most) if response_tokens is None else Range(min(response_tokens.low, most), min(response_tokens.high, most))


def _turns(slot: Slot) -> Range:
    """Each reply has a token, so there are no more of them than tokens."""
    use = slot.source.environment
    return Range(1, min(use.max_turns, slot.source.longest)) if use else NOTHING


def _taken(plan: RunPlan) -> list[int]:
    """The prompts of the run, as often as they come."""
    return [prompt for index in range(plan.steps) for prompt in plan.prompts_of(index)]


def _mean_bytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / len(texts)


def _evaluated(plan: RunPlan, response_tokens: Range | None) -> Range:
    asked = plan.compiled.recipe.evaluation
    if asked is None:
        return NOTHING
    times = sum(plan.is_evaluated(index) for index in range(plan.steps + 1))
    most = asked.max_response_tokens
    each = Range(1, most) if response_tokens is None else Range(1, min(most, max(1.0, 2 * response_tokens.high)))
    return each * (times * len(plan.evaluation))


def _asking(slot: Slot) -> list[str]:
    """Graders that put questions to somebody."""
    return [one.name for one in slot.graders if one.grading is not None and one.grading.grader not in COMPARING]


def _graded(plan: RunPlan, slot: Slot, name: str, like: Observed | None) -> Graded:
    grader = plan.compiled.teachers[name]
    assert grader.grading is not None, "a grader has a grading"
    taken = _taken(plan)
    rollouts = len(taken) * slot.source.samples_per_prompt
    if like is not None and like.asked is not None:
        return Graded(name, grader.model, Asking(*like.asked.of(rollouts)))
    subject = Subject(
        len({plan.prompts[prompt] for prompt in taken}),
        len(taken),
        rollouts,
        sum(one.source.samples_per_prompt for one in plan.slots if grader in one.graders),
        _mean_bytes([plan.prompts[prompt] for prompt in taken]),
        _mean_bytes([plan.answer_to(prompt) for prompt in taken]),
        _responses(slot, like.response_range if like else None) * BYTES_PER_TOKEN,
    )
    return Graded(name, grader.model, asking_of(grader.grading, subject))
