"""Graders of groups: both orders of everything are asked, a judge that prefers a place decides nothing, and it is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.error_details import error_of
from preceptor.errors import InvalidArgument, TooLarge, Unavailable
from preceptor.recipes.ops.reward import GROUPING
from preceptor.types import GradeItem, ModelRef, Receipt, Validity
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import GRADERS, GroupGrader, Means, build_grader, names_of_graders
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.best_of_n import inquiry_of as choice_of
from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.graders.groups import group_of
from preceptor_teacher.graders.pairwise import inquiry_of as pair_of
from preceptor_teacher.graders.pairwise import pairs_of
from preceptor_teacher.graders.protocol import DISCRIMINATOR, JUDGE
from preceptor_teacher.graders.watching import Judgements
from preceptor_teacher.grading import graded
from preceptor_teacher.testing.judging import read_judging
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS
from tests.unit.preceptor_teacher.grading.scripted import Judge, answers

Texts = dict[str, str]
CHOOSING = ("best_of_n", "pairwise")
"""Graders of groups whose answers name responses."""

MISSING = (Validity.MISSING_PROVIDER, None)


class Opinion(Judge):
    """Answers by the texts that it is shown, by label; None is nothing that can be read."""

    def __init__(self, member: str, says: Callable[[Texts], str | None]) -> None:
        super().__init__()
        self.member, self.says = member, says

    async def __call__(self, messages: Any, schema: Any = None):
        shown = fenced_texts(messages[-1]["content"])
        said = self.says({label: text for label, text in shown.items() if label not in ("prompt", "reference")})
        self.replies.append("?" if said is None else answers(**{self.member: said}))
        return await super().__call__(messages, schema)


def by_length(texts: Texts) -> str:
    """The longer one is better; of all, the longest is the best."""
    most = max(texts.values(), key=len)
    if len({len(text) for text in texts.values()}) == 1 and "first" in texts:
        return "neither"
    return next(label for label, text in texts.items() if text == most)


def pairwise(judge: Judge, **params: Any) -> GroupGrader:
    return made("pairwise", judge, Judgements(), **params)


def made(name: str, judge: Judge, watch: Judgements, **params: Any) -> GroupGrader:
    spec = GRADERS[name]
    grader = spec.build(spec.params.model_validate(params), Means(judge, b"secret", watch=watch))
    assert isinstance(grader, GroupGrader)
    return grader


def group(*responses: str, **fields: Any) -> list[GradeItem]:
    return [GradeItem("p", response, group="7", **fields) for response in responses]


def _plain(name: str) -> object:
    return build_grader(teacher_pb2.GradeSpec(grader=name), Means(Judge()))


def test_recipes_know_which_graders_compare():
    compared = {name for name in names_of_graders(JUDGE) if isinstance(_plain(name), GroupGrader)}
    assert set(GROUPING) == compared | set(names_of_graders(DISCRIMINATOR))


# ---------------------------------------------------------------- pairs


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=7), st.integers(0, 3))
async def test_a_steady_judge_gives_win_rates_and_is_asked_both_orders_once(lengths: list[int], ring: int):
    """Against the definition, over items: a response wins what is shorter, ties with its like, and wins sum to the pairs."""
    items = group(*("x" * length for length in lengths))
    judge = Opinion("better", by_length)
    verdicts = await pairwise(judge, ring=ring).grade_group(items)
    different = list(dict.fromkeys(lengths))
    met = set(pairs_of(len(different), ring))
    met |= {(b, a) for a, b in met}
    for mine, verdict in enumerate(verdicts):
        at = different.index(lengths[mine])
        rivals = {other for other in range(len(different)) if other == at or (at, other) in met}
        others = [b for place, b in enumerate(lengths) if place != mine and different.index(b) in rivals]
        wins = [1.0 if lengths[mine] > b else 0.5 if lengths[mine] == b else 0.0 for b in others]
        assert verdict.reward == pytest.approx(sum(wins) / len(wins))
        assert [one.score for one in verdict.criteria] == wins
    if not ring:
        assert sum(verdict.reward or 0.0 for verdict in verdicts) == pytest.approx(len(items) / 2)
    assert len(judge.asked) == sum(verdict.calls for verdict in verdicts) == len(met)
    assert len({messages[-1]["content"] for messages in judge.asked}) == len(met)


@pytest.mark.parametrize(
    ("count", "ring", "pairs"), [(8, 0, 28), (8, 1, 8), (8, 2, 16), (8, 4, 28), (2, 1, 1), (3, 1, 3), (1, 0, 0)]
)
def test_a_ring_costs_what_it_says_and_every_text_has_as_many_rivals(count: int, ring: int, pairs: int):
    found = list(pairs_of(count, ring))
    assert len(found) == len(set(found)) == pairs
    assert len(set(Counter(text for pair in found for text in pair).values())) <= 1


@pytest.mark.parametrize("place", ["first", "second"])
async def test_a_judge_that_prefers_a_place_makes_ties_only_and_shows(place: str):
    watch = Judgements()
    grader = made("pairwise", Opinion("better", lambda _: place), watch, samples=3)
    verdicts = await grader.grade_group(group("a", "b", "c"))
    assert {verdict.reward for verdict in verdicts} == {0.5}
    assert {one.reason for verdict in verdicts for one in verdict.criteria} == {"the two orders disagree"}
    assert watch.counts == {
        ("pairwise", "orders", "disagreed"): 3,
        ("pairwise", "position", place): 18,
        ("pairwise", "samples", "agreed"): 6,
    }


async def test_the_median_of_the_samples_counts_and_an_unreadable_one_is_left_out():
    turns = Counter[str]()

    def wavering(texts: Texts) -> str | None:
        """Of three samples one is the other way round, or says nothing."""
        turns[texts["first"]] += 1
        if turns[texts["first"]] == 2:
            return None if texts["first"] == "longer" else "first"
        return by_length(texts)

    watch = Judgements()
    judge = Opinion("better", wavering)
    long, short = await made("pairwise", judge, watch, samples=3).grade_group(group("longer", "short"))
    assert (long.reward, short.reward) == (1.0, 0.0)
    assert watch.counts["pairwise", "samples", "disagreed"] == 1
    assert watch.counts["pairwise", "orders", "agreed"] == 1
    with pytest.raises(ValueError, match="no median"):
        pairwise(judge, samples=2)


async def test_pairs_without_an_answer_are_left_out_and_a_response_with_fewer_than_half_of_them_is_missing():
    """Whatever is held against `bad` cannot be read."""
    judge = Opinion("better", lambda texts: None if "bad" in texts.values() else by_length(texts))
    watch = Judgements()
    long, bad, short = await made("pairwise", judge, watch).grade_group(group("longest", "bad", "long"))
    assert (long.reward, short.reward) == (1.0, 0.0)
    assert [(one.name, one.validity, one.score) for one in long.criteria] == [
        ("against 1", *MISSING),
        ("against 2", Validity.OK, 1.0),
    ]
    assert ((bad.validity, bad.reward), bad.reason) == (MISSING, "the reply is not one JSON object")
    assert watch.counts["pairwise", "orders", "missing"] == 2
    assert sum(one.calls for one in (long, bad, short)) == len(judge.asked) == 2 + 2 * 2 * 2  # one repair each


# ---------------------------------------------------------------- the best


@pytest.mark.parametrize("samples", [1, 3])
async def test_the_best_has_all_and_equal_ones_have_it_together(samples: int):
    judge = Opinion("best", by_length)
    verdicts = await made("best_of_n", judge, Judgements(), samples=samples).grade_group(group("a", "bbb", "cc", "bbb"))
    assert [one.reward for one in verdicts] == [0.0, 1.0, 0.0, 1.0]
    assert [one.calls for one in verdicts] == [len(judge.asked), 0, 0, 0] == [2 * samples, 0, 0, 0]


@pytest.mark.parametrize("count", range(2, 8))
async def test_whatever_place_a_judge_prefers_nobody_has_more_for_it(count: int):
    """Over all places that it may prefer, every response has the same; for each place two share."""
    total: dict[str, float] = defaultdict(float)
    for letter in "abcdefg"[:count]:
        watch = Judgements()
        items = group(*(str(number) for number in range(count)))
        verdicts = await made("best_of_n", Opinion("best", lambda _, letter=letter: letter), watch).grade_group(items)
        assert sorted(one.reward or 0.0 for one in verdicts) == [0.0] * (count - 2) + [0.5, 0.5]
        assert watch.counts["best_of_n", "orders", "disagreed"] == 1
        for item, one in zip(items, verdicts, strict=True):
            total[item.response] += one.reward or 0.0
    assert set(total.values()) == {1.0}


async def test_an_order_without_an_answer_leaves_the_group_without_rewards():
    silent = Opinion("best", lambda texts: "a" if texts["a"] == "x" else None)
    verdicts = await made("best_of_n", silent, Judgements()).grade_group(group("x", "y"))
    assert [(one.validity, one.reward) for one in verdicts] == [MISSING, MISSING]
    assert sum(one.calls for one in verdicts) == 3


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        (group("a"), InvalidArgument, "group '7' has one"),
        ([*group("a"), GradeItem("q", "b", group="7")], InvalidArgument, "to one prompt, and group '7' has several"),
        ([*group("a"), *group("b", reference="r")], InvalidArgument, "to one reference, and group '7' has several"),
        (group(*(str(n) for n in range(33))), TooLarge, "group '7' has more different responses"),
    ],
)
async def test_what_cannot_be_compared_is_refused_by_its_name_and_other_groups_are_not(name, items, error, words):
    member, says = ("better", by_length) if name == "pairwise" else ("best", by_length)
    judge = Opinion(member, says)
    fine = [replace(item, group="8") for item in group("a", "bb", "a")]
    results = await asked(name, judge, [fine[0], *items, *fine[1:]])
    assert [one.verdict.reward for one in (results[0], *results[-2:])] == pytest.approx(
        [0.25, 1.0, 0.25] if name == "pairwise" else [0.0, 1.0, 0.0]
    )
    assert len(judge.asked) == 2
    for place, result in enumerate(results[1:-2], 1):
        assert words in result.error.message
        assert (result.error.field, type(error_of(result.error))) == (f"items[{place}].group", error)


@pytest.mark.parametrize("name", CHOOSING)
async def test_equal_responses_are_no_question_and_an_unreachable_judge_is_an_error_of_the_whole_group(name: str):
    alike = await asked(name, Judge(), group("same", "same"))
    assert [one.verdict.reward for one in alike] == ([0.5, 0.5] if name == "pairwise" else [1.0, 1.0])

    class Away(Judge):
        async def __call__(self, messages: Any, schema: Any = None):
            raise Unavailable("the provider is away")

    away = await asked(name, Away(), group("a", "b", "c"))
    assert [one.error.message for one in away] == ["the provider is away"] * 3


async def asked(name: str, judge: Judge, items: Sequence[GradeItem]) -> list[teacher_pb2.GradeResult]:
    spec = teacher_pb2.GradeSpec(grader=name)
    request = teacher_pb2.GradeRequest(spec=spec)
    for item in items:
        request.items.add(prompt=item.prompt, response=item.response, reference=item.reference, group=item.group)
    return await graded(build_grader(spec, Means(judge)), request, lambda verdict, took_s: Receipt(ModelRef("judge")))


# ---------------------------------------------------------------- injections


async def test_no_text_breaks_a_fence_or_decides_a_comparison():
    for text in INJECTIONS:
        items = [GradeItem(text or "p", one) for one in (text, "834")]
        shown = group_of(items, "any", 26)
        for inquiry in (pair_of(shown, 0, 1), pair_of(shown, 1, 0), choice_of(shown, (0, 1)), choice_of(shown, (1, 0))):
            question = question_of(inquiry)
            request = question.messages[-1]["content"]
            assert fenced_texts(request) == inquiry.texts
            judging = read_judging(request)
            assert judging is not None
            assert (judging.prompt, judging.number) == (items[0].prompt, question.number)
            assert sorted(judging.several.values()) == sorted((text, "834"))
        for name in set(GROUPING) - set(names_of_graders(DISCRIMINATOR)):
            verdicts = await made(name, Judge(*[text] * 4), Judgements()).grade_group(items)
            assert [(one.validity, one.reward) for one in verdicts] == [MISSING, MISSING]
