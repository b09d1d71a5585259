"""What a grader asks a judge over a run: how often, and how long its questions and the answers are.

A judge is taken to answer: one that refuses asks for less. The longest answers are those that the grader would read, or what a
provider's `max_reply_tokens` allows by default where that is more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from preceptor.planning.questions import questions_of_group
from preceptor.planning.ranges import NOTHING, Range, exactly
from preceptor.recipes import Grading
from preceptor.recipes.ops.reward import GROUPING

FEWEST_TOKENS_PER_BYTE, MOST_TOKENS_PER_BYTE = 1 / 8, 1
TEMPLATE_TOKENS = Range(0, 64)
"""What a chat template and special tokens put around a text."""

BYTES_PER_TOKEN = Range(0, 8)
QUESTION_BYTES = Range(500, 1200)
"""Of a grader's question beside the texts that it is about: instructions, fences, request number; a test holds it to them."""

REPLY_TOKENS = 256
"""The default of a provider's `max_reply_tokens`."""

FENCE_BYTES = Range(96, 108)
"""Of the markers around each response beyond the first, where several are compared."""

VERDICT_TOKENS = Range(4, REPLY_TOKENS)
ASKED = Range(1, 2)
"""One question, and one repair of an answer that cannot be read. Attempts that fail at the provider come on top."""

CRITIQUE_CHARS, CRITERIA, CRITERION_CHARS, SHOWN = 600, 8, 500, 4
"""What the graders allow where they are not told otherwise; a test holds these to them."""

CHUNKS, CONTINUATIONS, STEPS = 8, 1, 16
"""The same of chunks and steps."""

PER_STEP_CHARS = 8
"""What a step takes in a list of them beside its text, and its score in a list of scores."""

ANSWER_CHARS, PER_CRITERION_CHARS = 64, 32
"""What an answer has beside its texts: number, names, punctuation."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is graded over a whole run; sizes are means."""

    distinct_prompts: int
    prompts: int  # as often as they come
    rollouts: int
    group: int  # rollouts of one prompt that the grader sees, those of other sources among them
    prompt_bytes: float
    reference_bytes: float  # 0: the grader is told no right answer
    response_bytes: Range


@dataclass(frozen=True, slots=True)
class Asking:
    """Of all questions together."""

    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    how: str = ""

    def __add__(self, other: Asking) -> Asking:
        tokens = self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        return Asking(self.calls + other.calls, *tokens, self.how or other.how)


def asking_of(grading: Grading, subject: Subject) -> Asking:
    """Graders that are not named in `ASKING` are taken to ask one question about each response, as `verbal` does."""
    return ASKING.get(grading.grader, _verbal)(grading, subject)


def tokens_of_bytes(count: float) -> Range:
    """Whatever the tokenizer, between one token for eight bytes and one for each, and a template around them."""
    return Range(max(1.0, count * FEWEST_TOKENS_PER_BYTE), max(1.0, count * MOST_TOKENS_PER_BYTE)) + TEMPLATE_TOKENS


def _verbal(grading: Grading, subject: Subject) -> Asking:
    if _told(grading).get("steps", "none") == "none":
        return _of_each_response(grading, subject, VERDICT_TOKENS)
    most = float(_told(grading).get("most_steps", STEPS))
    listed = replace(subject, response_bytes=subject.response_bytes + Range(0, PER_STEP_CHARS * most))
    return _of_each_response(grading, listed, Range(VERDICT_TOKENS.low, max(REPLY_TOKENS, ANSWER_CHARS + PER_STEP_CHARS * most)))


def _chunks(grading: Grading, subject: Subject) -> Asking:
    """Continuations at the chunks of each response, of which the end is one; those of equal beginnings are asked for once."""
    told = _told(grading)
    each = float(told.get("continuations", CONTINUATIONS))
    audits = min(float(told.get("most_chunks", CHUNKS)), 2 + subject.response_bytes.high / 2)  # a word has a byte and a space
    asked = Range(subject.distinct_prompts, subject.rollouts * audits) * each
    texts = exactly(subject.prompt_bytes + subject.reference_bytes) + _guidance(grading)
    begun = Range(0, subject.response_bytes.high)
    how = Asking(NOTHING, NOTHING, NOTHING, "equal beginnings are continued once")
    continued = how + _asked(asked, texts + begun, VERDICT_TOKENS)
    if told.get("compare") == "embedding":
        return continued + _embedded(asked, subject.response_bytes)
    if told.get("compare") != "judge":
        return continued
    both = begun * 2 + Range(0, REPLY_TOKENS * BYTES_PER_TOKEN.high) + FENCE_BYTES * 2
    return continued + _asked(Range(0, asked.high), exactly(subject.prompt_bytes) + both, VERDICT_TOKENS)


def _embedded(asked: Range, response_bytes: Range) -> Asking:
    """A vector of each text that is compared, where both have words; their tokens are counted as read, at the price of these."""
    calls = Range(0, 2 * asked.high)
    longest = max(response_bytes.high, REPLY_TOKENS * BYTES_PER_TOKEN.high)
    return Asking(calls, calls * Range(0, tokens_of_bytes(longest).high), NOTHING)


def _critique(grading: Grading, subject: Subject) -> Asking:
    most = float(_told(grading).get("most_chars", CRITIQUE_CHARS)) + ANSWER_CHARS
    return _of_each_response(grading, subject, Range(VERDICT_TOKENS.low, max(REPLY_TOKENS, most)))


def _rubric(grading: Grading, subject: Subject) -> Asking:
    made = NOTHING if "criteria" in _told(grading) else Range(subject.distinct_prompts, subject.prompts)
    return _by_criteria(grading, subject, made, NOTHING)


def _contrast(grading: Grading, subject: Subject) -> Asking:
    """The question that makes it shows some of the group's responses; a source is said to cause its part of these."""
    made = Range(subject.distinct_prompts, subject.prompts) * (subject.rollouts / (subject.group * subject.prompts))
    shown = Range(1, min(float(_told(grading).get("shown", SHOWN)), subject.group))
    return _by_criteria(grading, subject, made, (subject.response_bytes + FENCE_BYTES) * shown)


def _by_criteria(grading: Grading, subject: Subject, made: Range, shown_bytes: Range) -> Asking:
    """So many rubrics, of the judge's own answers where there is no reference; each is then held to responses."""
    told = _told(grading)
    criteria = float(len(told.get("criteria", ())) or told.get("most_criteria", CRITERIA))
    longest = max(REPLY_TOKENS, criteria * (CRITERION_CHARS + PER_CRITERION_CHARS) + ANSWER_CHARS)
    prompt, good, answered = exactly(subject.prompt_bytes), exactly(subject.reference_bytes), Asking(NOTHING, NOTHING, NOTHING)
    if not subject.reference_bytes:
        own = Range(1, longest)
        good, answered = own * BYTES_PER_TOKEN, Asking(made, made * tokens_of_bytes(subject.prompt_bytes), made * own)
    induced = _asked(made, prompt + good + shown_bytes + _guidance(grading), Range(VERDICT_TOKENS.low, longest))
    listed = Range(1, criteria * (CRITERION_CHARS + PER_CRITERION_CHARS))
    verified = _asked(_different(subject) * _samples(grading), prompt + listed + subject.response_bytes, VERDICT_TOKENS)
    how = "a rubric is made once a prompt, then equal responses are held to it once"
    return Asking(NOTHING, NOTHING, NOTHING, how) + answered + induced + verified


def _compared(grading: Grading, subject: Subject) -> Asking:
    """A source is said to cause its part of the questions about a group that has the rollouts of several."""
    questions, shown = questions_of_group(grading, subject.group)
    texts = subject.response_bytes * shown + FENCE_BYTES * Range(shown.low - 1, shown.high - 1)
    texts += exactly(subject.prompt_bytes + subject.reference_bytes) + _guidance(grading)
    asked = _asked(questions * (subject.rollouts / subject.group), texts, VERDICT_TOKENS)
    return Asking(NOTHING, NOTHING, NOTHING, "equal responses are no question") + asked


def _discriminator(grading: Grading, subject: Subject) -> Asking:
    """Its writer answers each prompt once, as it stands, unless an item's reference is the teacher's text."""
    if subject.reference_bytes:
        return Asking(NOTHING, NOTHING, NOTHING, "the references are the teacher's text: nobody is asked")
    calls = exactly(subject.distinct_prompts)
    how = "the writer answers each prompt once"
    return Asking(calls, calls * tokens_of_bytes(subject.prompt_bytes), calls * Range(1, REPLY_TOKENS), how)


def _of_each_response(grading: Grading, subject: Subject, written: Range) -> Asking:
    texts = exactly(subject.prompt_bytes + subject.reference_bytes) + subject.response_bytes + _guidance(grading)
    return Asking(NOTHING, NOTHING, NOTHING, "equal responses are judged once") + _asked(
        _different(subject) * _samples(grading), texts, written
    )


def _different(subject: Subject) -> Range:
    """Equal responses to one prompt are judged once, so the fewest is one for each prompt."""
    return Range(subject.distinct_prompts, subject.rollouts)


def _samples(grading: Grading) -> float:
    return float(_told(grading).get("samples", 1))


def _guidance(grading: Grading) -> Range:
    return exactly(len(str(_told(grading).get("guidance", "")).encode()))


def _told(grading: Grading) -> Mapping[str, Any]:
    return json.loads(grading.parameters_json or "{}")


def _asked(questions: Range, text_bytes: Range, written: Range) -> Asking:
    calls, whole = questions * ASKED, text_bytes + QUESTION_BYTES
    return Asking(calls, calls * Range(tokens_of_bytes(whole.low).low, tokens_of_bytes(whole.high).high), calls * written)


ASKING: dict[str, Callable[[Grading, Subject], Asking]] = {
    "chunks": _chunks,
    "critique": _critique,
    "rubric": _rubric,
    "verbal": _verbal,
    **dict.fromkeys(GROUPING, _compared),
    "contrast": _contrast,
    "discriminator": _discriminator,
}
"""Grader -> what it asks. One that asks otherwise than these has its function here."""
