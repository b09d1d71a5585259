"""What a run draws, scores, trains on and asks of providers, in tokens and calls; pure functions of the plan."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.learner import RunPlan
from preceptor.learner.plan import Slot
from preceptor.planning.like import Observed
from preceptor.planning.questions import questions_of_group
from preceptor.planning.ranges import NOTHING, Range, exactly
from preceptor.recipes import TeacherPlan
from preceptor.recipes.ops.reward import COMPARING, GROUPING

FEWEST_TOKENS_PER_BYTE, MOST_TOKENS_PER_BYTE = 1 / 8, 1
TEMPLATE_TOKENS = Range(0, 64)
"""What a chat template and special tokens put around a text."""

BYTES_PER_TOKEN = Range(0, 8)
QUESTION_BYTES = Range(500, 1200)
"""Of a grader's question beside the texts that it is about: instructions, fences, request number; a test holds it to them."""

FENCE_BYTES = Range(96, 108)
"""Of the markers around each response beyond the first, where several are compared."""

ANSWER_TOKENS = Range(4, 256)
"""Of a verdict; the most is the default of a provider's `max_reply_tokens`."""

CALLS_PER_VERDICT = Range(1, 2)
"""One question, and one repair of an answer that cannot be read. Attempts that fail at the provider come on top."""


@dataclass(frozen=True, slots=True)
class Graded:
    """What one teacher behind an API is asked over the whole run."""

    teacher: str
    model: str
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range


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
    prompt_tokens = tokens_of_bytes(_mean_prompt_bytes(plan))
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


def tokens_of_bytes(count: float) -> Range:
    """Whatever the tokenizer, between one token for eight bytes and one for each, and a template around them."""
    return Range(max(1.0, count * FEWEST_TOKENS_PER_BYTE), max(1.0, count * MOST_TOKENS_PER_BYTE)) + TEMPLATE_TOKENS


def _responses(slot: Slot, response_tokens: Range | None) -> Range:
    most = slot.source.longest
    return Range(1, most) if response_tokens is None else Range(min(response_tokens.low, most), min(response_tokens.high, most))


def _turns(slot: Slot) -> Range:
    """Each reply has a token, so there are no more of them than tokens."""
    use = slot.source.environment
    return Range(1, min(use.max_turns, slot.source.longest)) if use else NOTHING


def _mean_prompt_bytes(plan: RunPlan) -> float:
    taken = [len(plan.prompts[prompt].encode()) for index in range(plan.steps) for prompt in plan.prompts_of(index)]
    return sum(taken) / len(taken)


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
    prompts = plan.per_step * plan.steps
    if like is not None and like.asked is not None:
        return Graded(name, grader.model, *like.asked.of(prompts * slot.source.samples_per_prompt))
    questions, shown = _questions(plan, slot, grader, prompts)
    calls = questions * CALLS_PER_VERDICT
    response_bytes = _responses(slot, like.response_range if like else None) * BYTES_PER_TOKEN * shown
    response_bytes += FENCE_BYTES * Range(shown.low - 1, shown.high - 1)
    texts = exactly(_mean_prompt_bytes(plan) + len(grader.grading.parameters_json.encode())) + response_bytes + QUESTION_BYTES
    each = Range(tokens_of_bytes(texts.low).low, tokens_of_bytes(texts.high).high)
    return Graded(name, grader.model, calls, calls * each, calls * ANSWER_TOKENS)


def _questions(plan: RunPlan, slot: Slot, grader: TeacherPlan, prompts: int) -> tuple[Range, Range]:
    """Questions, and responses in each. Equal responses to one prompt are judged once, so the fewest is one for each prompt.

    A group that is compared has the rollouts of all sources; a source is said to cause its part of the questions."""
    mine = slot.source.samples_per_prompt
    if grader.grading is None or grader.grading.grader not in GROUPING:
        return Range(prompts, prompts * mine), exactly(1)
    together = sum(one.source.samples_per_prompt for one in plan.slots if grader in one.graders)
    questions, shown = questions_of_group(grader.grading, together)
    return questions * (prompts * mine / together), shown
