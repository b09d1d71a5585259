"""What graders ask a judge is within what an estimate says of it: questions by their bytes, calls and tokens of each grader."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.planning import Range
from preceptor.planning.asking import (
    ASKING,
    CHUNKS,
    CONTINUATIONS,
    CRITERIA,
    CRITERION_CHARS,
    CRITIQUE_CHARS,
    QUESTION_BYTES,
    REPLY_TOKENS,
    SHOWN,
    STEPS,
    Subject,
    asking_of,
    tokens_of_bytes,
)
from preceptor.recipes import Grading
from preceptor.types import GradeItem
from preceptor_teacher.api import ApiOptions, ChatReply, Message
from preceptor_teacher.api.messages import Embedded
from preceptor_teacher.graders import GroupGrader, Means
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.chunks import ChunksParams, continuation_of
from preceptor_teacher.graders.contrast import ContrastParams
from preceptor_teacher.graders.critique import CritiqueParams, critique_of
from preceptor_teacher.graders.cutting import step_ends
from preceptor_teacher.graders.registry import GRADERS
from preceptor_teacher.graders.rubric import MOST_TEXT_CHARS, CriterionParams, RubricParams, induction_of, verification_of
from preceptor_teacher.graders.verbal import VerbalParams, inquiry_of, stepwise_of
from preceptor_teacher.testing.continuing import read_continuing
from preceptor_teacher.testing.judging import read_judging
from preceptor_teacher.testing.stepping import read_stepping


@given(st.text(min_size=1, max_size=200), st.text(max_size=200), st.text(max_size=50), st.text(max_size=50), st.booleans())
def test_a_graders_question_is_as_long_as_was_said(
    prompt: str, response: str, reference: str, guidance: str, repair: bool
) -> None:
    item = GradeItem(prompt, response, reference)
    criteria = [CriterionParams(text=prompt)] * 3
    for inquiry in (
        inquiry_of(item, guidance),
        critique_of(item, CritiqueParams(guidance=guidance)),
        induction_of(prompt, reference, RubricParams(guidance=guidance)),
        verification_of(item, criteria),
        stepwise_of(item, step_ends(response, "words", 4), guidance),
        continuation_of(item, response, ChunksParams(guidance=guidance)),
    ):
        sent = sum(len(one["content"].encode()) for one in question_of(inquiry, repair=repair).messages)
        assert sent - sum(len(text.encode()) for text in (*inquiry.texts.values(), inquiry.guidance)) in QUESTION_BYTES


def test_graders_allow_what_estimates_take_them_to() -> None:
    assert (CritiqueParams().most_chars, RubricParams().most_criteria) == (CRITIQUE_CHARS, CRITERIA)
    assert (ContrastParams().shown, ContrastParams().most_criteria) == (SHOWN, CRITERIA)
    assert MOST_TEXT_CHARS == CRITERION_CHARS
    assert (ChunksParams().most_chunks, ChunksParams().continuations, VerbalParams().most_steps) == (CHUNKS, CONTINUATIONS, STEPS)
    assert ApiOptions.model_fields["max_reply_tokens"].default == REPLY_TOKENS
    assert {"verbal", "critique", "rubric"} <= ASKING.keys()


PROMPTS = [f"{n}21+{n}4{n}" for n in range(1, 6)]
RESPONSES = ["1+2=3 5", "1+2=3 5", "4+4=8 ok", "no"]


@pytest.mark.parametrize("reference", ["", "1+2=3 4+4=8 83"])
@pytest.mark.parametrize(
    "grader",
    [
        ("verbal", {}),
        ("verbal", {"steps": "words"}),
        *((name, {"samples": 3}) for name in ("verbal", "critique", "rubric")),
        ("critique", {}),
        ("rubric", {}),
        ("contrast", {}),
        ("chunks", {"chunk_words": 1}),
        ("chunks", {"chunk_words": 1, "compare": "embedding"}),
        ("chunks", {"chunk_words": 1, "most_chunks": 2, "continuations": 2, "compare": "judge"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("broken", [0, 1])
async def test_graders_ask_what_was_said(grader: tuple[str, dict[str, Any]], reference: str, broken: int) -> None:
    """Asked of a judge that remembers its replies, as a judge's client does; each first answer may be one that cannot be read."""
    judge = Remembering(broken)
    name, parameters = grader
    build = GRADERS[name]
    made = build.build(build.params.model_validate(parameters), Means(judge.ask, b"secret", judge.embed))
    for prompt in PROMPTS:
        items = [GradeItem(prompt, response, reference) for response in dict.fromkeys(RESPONSES)]
        graded = await made.grade_group(items) if isinstance(made, GroupGrader) else [await made.grade(one) for one in items]
        assert all(verdict.reward is not None for verdict in graded)
    subject = Subject(len(PROMPTS), len(PROMPTS), len(PROMPTS) * len(RESPONSES), len(RESPONSES), 7, len(reference), Range(1, 40))
    said = asking_of(Grading(name, json.dumps(parameters)), subject)
    assert judge.calls in said.calls
    assert judge.read in said.prompt_tokens
    assert judge.wrote in said.completion_tokens
    wide = (
        (20 if "embedding" in parameters.values() else 8) if name == "chunks" else 2.5
    )  # how many words there are, and which beginnings are equal, is not known before
    assert said.calls.high < wide * judge.calls * (2 - broken), "and not much more"


@dataclass
class Remembering:
    """Plays the stand-in's judge with an answer of its own; a token is a byte. The same question is answered, and paid, once."""

    broken: int
    calls: int = 0
    read: int = 0
    wrote: int = 0
    known: dict[str, str] = field(default_factory=dict)

    async def ask(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> ChatReply:
        asked = "".join(one["content"] for one in messages)
        if asked in self.known:
            return ChatReply(self.known[asked], "stop", refused=False)
        request = messages[-1]["content"]
        judging = read_judging(request) or read_stepping(request) or read_continuing(request)
        text = "1+2=3 4+4=8 83" if judging is None else judging.reply("1+2=3 4+4=8 83")
        if judging is not None and self.broken and "Your last answer" not in asked:
            text = "well"
        self.calls, self.read, self.wrote = self.calls + 1, self.read + len(asked.encode()), self.wrote + len(text)
        self.known[asked] = text
        return ChatReply(text, "stop", refused=False, calls=1)

    async def embed(self, text: str) -> Embedded:
        cost = 0 if text in self.known else 1
        self.calls, self.read = self.calls + cost, self.read + cost * len(text.encode())
        self.known[text] = ""
        return Embedded((float(len(text)), 1.0), ChatReply("", "stop", refused=False, calls=cost))


@given(st.text(min_size=1, max_size=100))
def test_a_byte_tokenizer_lies_at_the_upper_end(text: str) -> None:
    assert len(text.encode()) + 3 in tokens_of_bytes(len(text.encode()))
