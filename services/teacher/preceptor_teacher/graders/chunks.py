"""What a teacher's probability of a chunk would say, from a provider that has none: does it go on as the student did?

The response is cut into chunks of a few words, and its end is a chunk of its own without any. Before each chunk the provider
is shown the prompt and the response up to there, as data, and continues it. The reward of a chunk is how much its continuations
are like what the student wrote; of the end, how many of them have nothing to add. Two responses that begin alike are asked about
in the same words as far as they do, and that is paid once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from preceptor.errors import Unsupported
from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Spent, Step, answer_to, missing, verdict_at
from preceptor_teacher.graders.cutting import bytes_to, unit_ends
from preceptor_teacher.graders.groups import all_of
from preceptor_teacher.graders.likeness import cosine, shared_runs, shared_words
from preceptor_teacher.graders.protocol import Ask, Embed, Grader, GraderSpec, Means
from preceptor_teacher.graders.verbal import texts_of
from preceptor_teacher.graders.verdicts import HIGHEST, LOWEST, NoVerdict, read_answer, schema_with, whole_number

NAME = "chunks"
NOBODY_ASKED = {"words": shared_words, "runs": shared_runs}
"""Ways to compare that need nothing of the provider."""

MOST_TEXT_CHARS = 4000
MOST_REPLY_CHARS = 12 * MOST_TEXT_CHARS + 200
"""What a continuation of the longest kind may take in JSON: escapes, and the other members."""


class ChunksParams(BaseModel):
    """How a response is cut, how much of it is audited, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    chunk_words: int = Field(default=4, ge=1, le=256)
    """Words of a chunk; the last one may be shorter, and is held against a whole one."""

    most_chunks: int = Field(default=8, ge=1, le=256)
    """How many are audited, the end among them: where the item says the student was unsure, else evenly spread."""

    continuations: int = Field(default=1, ge=1, le=16)
    """How often the provider continues at each; several differ only where its temperature is above zero."""

    compare: Literal["words", "runs", "embedding", "judge"] = "words"
    """words: those that both have in order; runs: runs of three characters; embedding: the provider's vectors; judge: it says."""

    guidance: str = Field(default="", max_length=4000)
    """How the provider should answer, in words; part of the question, outside the fence."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """A `Grader` that says something of every chunk; the reward of the whole is the mean of those that were audited."""

    params: ChunksParams
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    embed: Embed | None = None

    async def grade(self, item: GradeItem) -> Verdict:
        """MISSING where no continuation at all could be read. What was paid before a failure is remembered, so it ends last."""
        spent, cuts = Spent(), cuts_of(item.response, self.params.chunk_words)
        audited = audited_of(item, cuts, self.params.most_chunks)
        found = await all_of(*(self._audit(item, *cuts[place], spent) for place in audited))
        rewards = dict(zip(audited, found, strict=True))
        known = [reward for reward in found if not isnan(reward)]
        if not known:
            return missing("no continuation could be read", spent)
        ends = bytes_to(item.response, [end for _, end in cuts])
        steps = [Step(end, rewards.get(place, nan)) for place, end in enumerate(ends)]
        return verdict_at(spent, Validity.OK, fmean(known), steps=steps)

    async def _audit(self, item: GradeItem, start: int, end: int, spent: Spent) -> float:
        """The reward of one chunk; NaN where no continuation could be read."""
        samples = range(self.params.continuations)
        found = await all_of(*(self._likeness(item, start, end, sample, spent) for sample in samples))
        known = [one for one in found if not isnan(one)]
        return fmean(known) if known else nan

    async def _likeness(self, item: GradeItem, start: int, end: int, sample: int, spent: Spent) -> float:
        prefix, written = item.response[:start], item.response[start:end]
        try:
            text = await self._answer(continuation_of(item, prefix, self.params, sample), spent)
            theirs = " ".join(text.split()[: self.params.chunk_words])
            if self.params.compare in NOBODY_ASKED or not theirs or not written.split():
                return NOBODY_ASKED.get(self.params.compare, shared_words)(theirs, written)
            if self.params.compare == "embedding":
                return await self._near(theirs, written.strip(), spent)
            mark = await self._answer(comparison_of(item, prefix, theirs, written), spent)
        except NoVerdict:
            return nan
        return mark / HIGHEST

    async def _near(self, theirs: str, written: str, spent: Spent) -> float:
        """How near the provider's vectors of both are."""
        assert self.embed is not None, "a grader is not built to compare by what its teacher does not have"
        found = await all_of(self.embed(theirs), self.embed(written))
        for one in found:
            spent.add(one.reply)
        return cosine(*(one.vector for one in found))

    async def _answer(self, inquiry: Inquiry[Any], spent: Spent) -> Any:
        return await answer_to(inquiry, self.ask, spent, self.secret)


def cuts_of(response: str, chunk_words: int) -> list[tuple[int, int]]:
    """Start and end of every chunk, in characters: spaces before a word belong to it, those at the end to the end."""
    ends = unit_ends(response, "words")
    cuts = ends[chunk_words - 1 :: chunk_words]
    if ends and (not cuts or cuts[-1] != ends[-1]):
        cuts.append(ends[-1])
    return list(zip([0, *cuts], [*cuts, len(response)], strict=True))


def audited_of(item: GradeItem, cuts: Sequence[tuple[int, int]], most: int) -> list[int]:
    """Places of the chunks to audit, in order."""
    if len(cuts) <= most:
        return list(range(len(cuts)))
    starts = bytes_to(item.response, [start for start, _ in cuts])
    doubted = [max(place for place, start in enumerate(starts) if start <= byte) for byte in item.unsure_at]
    even = [(2 * turn + 1) * len(cuts) // (2 * most) for turn in range(most)]
    return sorted(list(dict.fromkeys([*doubted, *even, *range(len(cuts))]))[:most])


def continuation_of(item: GradeItem, prefix: str, params: ChunksParams, sample: int = 0) -> Inquiry[str]:
    """What is asked at the start of a chunk."""
    return Inquiry(
        f"Go on with the response to the prompt from where it stops, by at most {params.chunk_words} words and without repeating "
        "any of it, as you would have gone on yourself. Where nothing is left to say, the continuation is empty.",
        texts_of(GradeItem(item.prompt, prefix, item.reference)),
        'T being the continuation: {"request": "NUMBER", "continuation": T}',
        lambda number: schema_with(number, continuation={"type": "string", "maxLength": MOST_TEXT_CHARS}),
        _read_continuation,
        params.guidance,
        sample,
    )


def comparison_of(item: GradeItem, prefix: str, theirs: str, written: str) -> Inquiry[int]:
    """What is asked of a continuation and a chunk."""
    return Inquiry(
        f"Say with an integer from {LOWEST} (something else) to {HIGHEST} (the same) how far the first and the second text "
        "agree in what they say, each as a continuation of the response to the prompt.",
        {"prompt": item.prompt, "response": prefix, "first": theirs, "second": written},
        'N being how far they agree: {"request": "NUMBER", "agree": N}',
        lambda number: schema_with(number, agree={"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}),
        _read_agreement,
    )


def _read_agreement(reply: str, number: str) -> int:
    return whole_number(read_answer(reply, number, ("agree",))["agree"], "agreement", LOWEST, HIGHEST)


def _read_continuation(reply: str, number: str) -> str:
    text = read_answer(reply, number, ("continuation",), MOST_REPLY_CHARS)["continuation"]
    if not isinstance(text, str) or len(text) > MOST_TEXT_CHARS:
        raise NoVerdict(f"the continuation is not a text of at most {MOST_TEXT_CHARS} characters")
    return text.encode("utf-8", errors="replace").decode()


def _build(params: ChunksParams, means: Means) -> Grader:
    assert means.ask is not None, "a grader that asks belongs to a judge"
    if params.compare == "embedding" and means.embed is None:
        raise Unsupported(
            "this teacher has no embeddings to compare by",
            field="spec.parameters_json.compare",
            value=params.compare,
            limit="words | runs | judge",
            hint="name the provider's embedding model under `embedding` in the teacher's entry",
        )
    return Chunks(params, means.ask, means.secret, means.embed)


SUMMARY = "how far the provider goes on as the student did, chunk by chunk, from 0 to 1"
SPEC = GraderSpec(NAME, SUMMARY, ChunksParams, _build, steps=True)
